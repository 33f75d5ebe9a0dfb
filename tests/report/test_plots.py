"""Figures, parsed from their JSON."""

import json

from cim_lightning.report import plots
from cim_lightning.report.runs import read_runs

LOGGED = "step,val/loss,train/loss,val/knn\n0,9.0,9.5,0.25\n4,,4.0,\n9,2.0,3.0,0.5\n"


def drawn(figure, tmp_path):
    text = figure(read_runs(tmp_path))
    return None if text is None else json.loads(text)


def test_one_line_per_run_and_split_and_one_row_per_metric(write_run, tmp_path):
    write_run("0", ["method=mae", "seed=0"], logged=LOGGED)
    write_run("1", ["method=mae", "seed=1"], logged=LOGGED, finished=False)
    write_run("2", ["method=cim", "seed=0"], logged="step,val/skill\n9,0.25\n")
    figure = drawn(plots.curves, tmp_path)
    lines = figure["data"]
    assert [line["name"] for line in lines] == ["mae"] * 6 + ["cim"]
    assert [line["showlegend"] for line in lines] == [True] + [False] * 5 + [True]
    assert len({line["line"]["color"] for line in lines}) == 2
    assert [note["text"] for note in figure["layout"]["annotations"]] == [
        "<b>loss</b>",
        "<b>correlation skill</b>",
        "<b>k-NN accuracy, %</b>",
    ]
    loss, training, knn = lines[:3]
    assert (loss["yaxis"], knn["yaxis"], lines[-1]["yaxis"]) == ("y", "y3", "y2")
    assert (loss["x"], loss["y"]) == ([0, 10], [9, 2])
    assert (training["x"], training["y"]) == ([1, 5, 10], [9.5, 4, 3])
    assert loss["meta"]["costs"]["seconds"] == 2
    assert lines[3]["meta"]["costs"] == {"steps": 1}
    assert lines[3]["line"]["dash"] == "dot"


def test_the_range_leaves_out_the_fall_from_an_untrained_network(write_run, tmp_path):
    steep = "step,val/loss,val/knn\n0,100,0.25\n4,3,0.3\n9,2,0.5\n"
    write_run("0", ["seed=0"], logged=steep)
    write_run("1", ["seed=1"], logged="step,val/loss\n0,90\n", finished=False)  # has just started
    layout = drawn(plots.curves, tmp_path)["layout"]
    assert layout["yaxis"]["range"] == [1.92, 3.08]
    assert "range" not in layout["yaxis2"]


def test_runs_without_logs_have_no_plot(write_run, tmp_path):
    write_run("0", [])
    assert drawn(plots.curves, tmp_path) is None


def test_coordinates_are_numeric_where_possible_and_results_are_those_of_all_runs(write_run, tmp_path):
    for i, (depth, size) in enumerate([(8, "small"), (2, "large"), (4, "small")]):
        skill = {"val/skill": 0.5} if i else {}
        write_run(str(i), [f"decoder.depth={depth}", f"net={size}"], **{"val/knn": 25 * i}, **skill)
    figure = drawn(plots.coordinates, tmp_path)
    depth, net, knn = figure["data"][0]["dimensions"]
    assert (depth["label"], depth["values"], depth["tickvals"]) == ("depth", [8, 2, 4], [2, 4, 8])
    assert (net["label"], net["values"], net["ticktext"]) == ("net", [0, 1, 0], ["small", "large"])
    assert (knn["label"], knn["values"]) == ("online k-NN after, %", [0, 25, 50])


def test_ambiguous_names_are_not_shortened(write_run, tmp_path):
    write_run("0", ["a.size=1", "b.size=1"], **{"val/knn": 50})
    write_run("1", ["a.size=2", "b.size=2"], **{"val/knn": 50})
    labels = [d["label"] for d in drawn(plots.coordinates, tmp_path)["data"][0]["dimensions"]]
    assert labels == ["a.size", "b.size", "online k-NN after, %"]


def test_runs_that_differ_in_the_seed_have_no_coordinates(write_run, tmp_path):
    write_run("0", ["seed=0"], **{"val/knn": 50})
    write_run("1", ["seed=1"], **{"val/knn": 50})
    assert drawn(plots.coordinates, tmp_path) is None


def test_a_figure_cannot_close_its_script_element(write_run, tmp_path):
    write_run("0", ["method=</script><b>"], logged=LOGGED)
    assert "<" not in plots.curves(read_runs(tmp_path))
