"""The table of several runs, against means and deviations calculated by hand."""

import csv

import pytest

from cim_lightning.metric_registry import COLUMN, Metric
from cim_lightning.report import significance, sweep_table, tables
from cim_lightning.report.columns import columns, objective
from cim_lightning.report.comparison import Comparison
from cim_lightning.report.runs import read_runs


def column(compared, title):
    return next(column for column in compared.columns if column.title == title)


def two_methods(write_run):
    write_run("0", ["method=mae", "seed=0"], {"linear/mean": 50}, **{"val/knn": 30})
    write_run("1", ["method=mae", "seed=1"], {"linear/mean": 70}, **{"val/knn": 34})
    write_run("2", ["method=cim", "seed=0"], {"linear/mean": 60}, **{"val/knn": 40, "val/skill": 0.125})


def test_a_row_has_mean_and_sample_deviation_over_seeds(write_run, tmp_path):
    two_methods(write_run)
    rows = Comparison(read_runs(tmp_path)).rows
    mae, cim = rows["mae"], rows["cim"]
    assert mae["online k-NN after, %"].mean == pytest.approx(32)
    assert mae["online k-NN after, %"].std == pytest.approx(8**0.5)  # of 30 and 34
    assert mae["probe, mean, %"].mean == pytest.approx(60)
    assert mae["epochs"].mean == 2
    assert mae["GFLOP/image"].mean == 3
    assert mae["TFLOP total"].mean == 3
    assert "skill" not in mae
    assert cim["skill"] == (0.125, None, 1)


def test_the_markdown_table_has_one_row_per_setting_and_no_empty_columns(write_run, tmp_path):
    two_methods(write_run)
    head, rule, mae, cim = tables.results(Comparison(read_runs(tmp_path))).markdown().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, mae, cim)]
    assert len({len(row) for row in cells}) == 1
    assert rule.count("---") == len(cells[0])
    titles = cells[0]
    assert "k-NN, pooled, k = 20, %" not in titles
    assert cells[1][:2] == ["mae", "2"]
    assert cells[1][titles.index("online k-NN after, %")] == "32.0 ± 2.8"
    assert cells[1][titles.index("skill")] == ""
    assert cells[2][titles.index("skill")] == "0.125"


def test_files_have_the_table_and_every_run(write_run, tmp_path):
    two_methods(write_run)
    text = sweep_table.write(tmp_path)
    assert (tmp_path / "table.md").read_text() == text + "\n"
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [(row["setting"], row["seed"], row["folder"]) for row in rows] == [
        ("mae", "0", "0"),
        ("mae", "1", "1"),
        ("cim", "0", "2"),
    ]
    assert float(rows[1]["online k-NN after, %"]) == pytest.approx(34)


def test_a_tie_or_a_single_setting_has_no_best(write_run, tmp_path):
    for job, (method, knn, skill) in enumerate([("mae", 0.5, 0.1), ("cim", 0.5, 0.2)]):
        write_run(
            str(job), [f"method={method}"], **{"val/knn": knn, "val/skill": skill, "val/knn_pooled": 50}
        )
    runs = read_runs(tmp_path)
    compared = Comparison(runs)
    assert compared.best(column(compared, "online k-NN after, %")) is None
    assert compared.best(column(compared, "skill")) == "cim"
    assert Comparison(runs[1:]).best(column(compared, "skill")) is None
    assert "**0.200**" in tables.results(compared).markdown()


def test_online_knn_is_no_goal_beside_an_evaluated_knn(write_run, tmp_path):
    write_run("0", ["method=mae", "seed=0"], {"knn/mean_k20": 50}, **{"val/knn": 30})
    write_run("1", ["method=mae", "seed=1"], **{"val/knn": 70})  # the evaluation failed
    write_run("2", ["method=cim"], {"knn/mean_k20": 60}, **{"val/knn": 10})
    runs = read_runs(tmp_path)
    compared = Comparison(runs)
    rows = compared.rows
    assert rows["mae"]["k-NN, mean, k = 20, %"] == (50, None, 1)
    assert rows["mae"]["online k-NN after, %"].mean == pytest.approx(50)
    assert [column.title for column in compared.goals] == ["k-NN, mean, k = 20, %"]
    assert [objective(run) for run in runs] == [50, 70, 60]
    alone = Comparison(runs[1:2]).goals
    assert [column.title for column in alone] == ["online k-NN after, %"]


def test_of_several_numbers_of_neighbors_the_one_closest_to_20_is_shown(write_run, tmp_path):
    write_run("0", [], {"knn/mean_k5": 10, "knn/mean_k10": 20, "knn/pooled_k200": 30})
    write_run("1", [], {"knn/mean_k10": 10, "knn/mean_k20": 40, "knn/mean_k200": 30})
    runs = read_runs(tmp_path)
    titles = [c.title for c in columns(runs) if c.title.startswith("k-NN")]
    assert titles == ["k-NN, mean, k = 10, %", "k-NN, pooled, k = 200, %", "k-NN, mean, k = 20, %"]
    found = [{c.title: c.value(run) for c in columns([run])} for run in runs]
    assert [values.get(titles[0]) for values in found] == [20, None]
    assert [values.get(titles[1]) for values in found] == [30, None]
    assert [values.get(titles[2]) for values in found] == [None, 40]
    assert [objective(run) for run in runs] == [20, 40]


def test_metrics_that_only_the_run_declares_have_columns_and_the_lowest_can_be_best(write_run, tmp_path):
    mine = Metric("gap", "generalization gap", None, (COLUMN,), False, digits=2, unit="nats")
    other = Metric("hidden", "not shown")
    for job, value in enumerate((0.5, 0.25)):
        numbers = {"val/gap": value, "val/hidden": 1.0}
        write_run(str(job), [f"a={job}"], declared=(mine, other), **numbers)
    compared = Comparison(read_runs(tmp_path))
    assert compared.rows["a=0"]["generalization gap, nats"].text(2) == "0.50"
    assert compared.best(column(compared, "generalization gap, nats")) == "a=1"
    assert not [c.title for c in compared.columns if "shown" in c.title]


def test_metrics_of_two_evaluators_with_one_title_are_two_columns(write_run, tmp_path):
    write_run("0", [], {"knn/mean_k20": 50, "knn_of_many/mean_k20": 60})
    titles = [c.title for c in columns(read_runs(tmp_path)) if "k-NN, mean" in c.title]
    assert titles == ["knn: k-NN, mean, k = 20, %", "knn_of_many: k-NN, mean, k = 20, %"]


def test_nan_is_not_compared(write_run, tmp_path):
    write_run("0", ["a=1"], **{"val/skill": float("nan")})
    write_run("1", ["a=2"], **{"val/skill": 0.5})
    compared = Comparison(read_runs(tmp_path))
    assert "skill" not in compared.rows["a=1"]
    assert compared.best(column(compared, "skill")) is None


def test_peak_memory_is_shown_for_gpus_only(write_run, tmp_path):
    write_run("0", ["a=1"])
    write_run("1", ["a=2"], device="x86_64 CPU")
    rows = Comparison(read_runs(tmp_path)).rows
    assert rows["a=1"]["peak GPU GB"].mean == 2
    assert "peak GPU GB" not in rows["a=2"]


def test_a_folder_without_runs_has_a_message_instead_of_a_table(tmp_path):
    assert sweep_table.write(tmp_path) == "No run is finished, and none failed."


def test_metrics_of_dino_have_columns_and_none_is_best(write_run, tmp_path):
    write_run("0", ["a=1"], **{"val/target_entropy": 0.5, "val/target_perplexity": 12.25})
    write_run("1", ["a=2"], **{"val/target_entropy": 0.75})
    compared = Comparison(read_runs(tmp_path))
    assert [c.title for c in compared.columns][-2:] == ["target entropy", "target perplexity"]
    assert compared.rows["a=1"]["target perplexity"].text(1) == "12.2"
    assert compared.best(column(compared, "target entropy")) is None


def test_the_better_feature_is_chosen_for_each_setting_and_not_for_each_run(write_run, tmp_path):
    results = {"mae": [(30, 40), (44, 20)], "cim": [(31, 33), (33, 35)]}  # mean over the grid, pooled
    for method, seeds in results.items():
        for seed, (mean, pooled) in enumerate(seeds):
            numbers = {"knn/mean_k20": mean, "knn/pooled_k20": pooled, "linear/mean": mean}
            write_run(f"{method}{seed}", [f"method={method}", f"seed={seed}"], numbers)
    compared = Comparison(read_runs(tmp_path))
    title = "k-NN, better of mean and pooled, k = 20, %"
    assert [column.title for column in compared.better] == [title]  # the probe has one feature
    # The means of MAE are 37 and 30, those of CIM 32 and 34.
    assert {name: row[title].mean for name, row in compared.rows.items()} == {"mae": 37, "cim": 34}
    values = {run.folder.name: compared.better[0].value(run) for run in read_runs(tmp_path)}
    assert values == {"mae0": 30, "mae1": 44, "cim0": 33, "cim1": 35}
    assert compared.best(compared.better[0]) == "mae"
    assert title in tables.results(compared).head
    tested = significance.differences(compared, "mae")[title].by_setting["cim"]
    assert (tested.mean, tested.paired) == (-3, True)
