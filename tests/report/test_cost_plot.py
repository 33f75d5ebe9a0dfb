"""The figure of results against cost, parsed from its JSON."""

import json
from typing import Any

from cim_lightning.report.cost_plot import costs
from cim_lightning.report.runs import read_runs


def drawn(tmp_path) -> Any:
    text = costs([run for run in read_runs(tmp_path) if run.finished])
    return None if text is None else json.loads(text)


def write_budgets(write_run):
    """MAE with two seeds at 1000 and 10000 images, and an untrained backbone."""
    for i, (seed, factor) in enumerate([(0, 1), (1, 1), (0, 10), (1, 10)]):
        logged = f"step,val/knn\n0,25\n{5 * factor - 1},{26 + seed}\n{10 * factor - 1},{30 + seed}\n"
        measured = {"steps": 10 * factor, "images_seen": 1000 * factor, "seconds": 20.0 * factor}
        overrides = ["method=mae", f"budget.images={1000 * factor}", f"seed={seed}"]
        write_run(str(i), overrides, logged=logged, **measured, **{"val/knn": 30.0 + seed + factor})
    write_run("9", ["method=random"], steps=0, images_seen=0, **{"val/knn": 25.0})


def test_a_series_connects_the_means_of_its_budgets(write_run, tmp_path):
    write_budgets(write_run)
    figure = drawn(tmp_path)
    best, final, dots, *during, untrained = figure["data"]
    assert [trace["name"] for trace in figure["data"]] == ["best run", "mae", "mae", "mae", "mae", "random"]
    assert (final["x"], final["y"]) == ([3, 30], [31.5, 40.5])
    assert final["error_y"]["array"] == final["error_y"]["arrayminus"] == [0.5, 0.5]
    assert final["meta"]["points"]["seconds"]["x"] == [20, 200]
    assert sorted(dots["y"]) == [31, 32, 40, 41]
    assert (best["x"], best["y"]) == ([3, 30], [32, 41])
    assert [(trace["x"], trace["y"]) for trace in during] == [
        ([1.5, 3], [26.5, 30.5]),
        ([15, 30], [26.5, 30.5]),
    ]
    assert (untrained["x"], untrained["y"]) == ([3, 30], [25, 25])
    assert untrained["meta"]["points"]["seconds"]["x"] == [20, 200]
    assert [trace["showlegend"] for trace in figure["data"]] == [True, True, False, False, False, True]
    assert figure["layout"]["xaxis"]["type"] == "log"


def test_a_line_is_in_the_order_of_the_costs(write_run, tmp_path):
    for job, thousands in enumerate((3, 1, 2)):
        overrides, costs = ["method=mae", f"budget.images={thousands}000"], {"images_seen": 1000 * thousands}
        write_run(str(job), overrides, **costs, **{"val/knn": 30.0 + thousands})
    _, final, *_ = drawn(tmp_path)["data"]
    assert (final["x"], final["y"]) == ([3, 6, 9], [31, 32, 33])


def test_no_line_connects_the_trials_of_a_search(write_run, tmp_path):
    for i in range(12):
        overrides = [f"method={'mae' if i % 3 else 'cim'}", f"optim.base_lr={i}"]
        write_run(str(i), overrides, images_seen=1000 * (i + 1), **{"val/knn": 30.0 + i})
    best, *traces = drawn(tmp_path)["data"]
    assert best["mode"] == "lines"
    assert {trace["mode"] for trace in traces} == {"markers"}
    assert [trace["name"] for trace in traces if trace["showlegend"]] == ["cim", "mae"]


def test_equal_costs_have_a_linear_axis_and_every_goal_a_row(write_run, tmp_path):
    for job, method in enumerate(("mae", "cim")):
        write_run(str(job), [f"method={method}"], {"knn/mean_k20": 40.0}, **{"val/knn": 30.0})
    figure = drawn(tmp_path)
    titles = [note["text"] for note in figure["layout"]["annotations"]]
    assert titles == ["<b>online k-NN after, %</b>", "<b>k-NN, mean, k = 20, %</b>"]
    assert figure["layout"]["xaxis"].get("type") != "log"


def test_runs_without_results_or_costs_have_no_figure(write_run, tmp_path):
    write_run("0", ["method=mae"])
    write_run("1", ["method=random"], steps=0, images_seen=0, **{"val/knn": 25.0})
    (write_run("2", ["method=dino"]) / "metrics.json").write_text('{"val/knn": 50, "steps": 3}')
    assert drawn(tmp_path) is None
