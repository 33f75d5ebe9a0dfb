"""The table of several runs, beside means and deviations worked out by hand."""

import csv

import pytest

from cim_lightning.report import comparison
from cim_lightning.report.runs import read_runs


def two_methods(leave):
    leave("0", ["method=mae", "seed=0"], {"linear/mean": 0.5}, **{"val/knn": 0.30})
    leave("1", ["method=mae", "seed=1"], {"linear/mean": 0.7}, **{"val/knn": 0.34})
    leave("2", ["method=cim", "seed=0"], {"linear/mean": 0.6}, **{"val/knn": 0.4, "val/skill": 0.125})


def test_a_row_holds_mean_and_sample_deviation_over_seeds(leave, tmp_path):
    two_methods(leave)
    rows = comparison.compare(read_runs(tmp_path))
    mae, cim = rows["mae"], rows["cim"]
    assert mae["online k-NN after, %"].mean == pytest.approx(32)
    assert mae["online k-NN after, %"].deviation == pytest.approx(8**0.5)  # of 30 and 34
    assert mae["probe, %"].mean == pytest.approx(60)
    assert mae["epochs"].mean == 2
    assert mae["GFLOP an image"].mean == 3
    assert mae["TFLOP in all"].mean == 3
    assert "skill" not in mae
    assert cim["skill"] == (0.125, None, 1)


def test_the_page_is_a_row_a_setting_and_leaves_out_what_nobody_measured(leave, tmp_path):
    two_methods(leave)
    head, rule, mae, cim = comparison.markdown(read_runs(tmp_path)).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, mae, cim)]
    assert len({len(row) for row in cells}) == 1
    assert rule.count("---") == len(cells[0])
    titles = cells[0]
    assert "k-NN pooled, %" not in titles
    assert cells[1][:2] == ["mae", "2"]
    assert cells[1][titles.index("online k-NN after, %")] == "32.0 ± 2.8"
    assert cells[1][titles.index("skill")] == ""
    assert cells[2][titles.index("skill")] == "0.125"


def test_files_hold_the_table_and_every_run(leave, tmp_path):
    two_methods(leave)
    text = comparison.write(tmp_path)
    assert (tmp_path / "table.md").read_text() == text + "\n"
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [(row["setting"], row["seed"], row["folder"]) for row in rows] == [
        ("mae", "0", "0"),
        ("mae", "1", "1"),
        ("cim", "0", "2"),
    ]
    assert float(rows[1]["online k-NN after, %"]) == pytest.approx(34)


def test_the_best_is_one_alone(leave, tmp_path):
    for job, (method, knn, skill) in enumerate([("mae", 0.5, 0.1), ("cim", 0.5, 0.2)]):
        leave(str(job), [f"method={method}"], **{"val/knn": knn, "val/skill": skill, "val/knn_pooled": 0.5})
    rows = comparison.compare(read_runs(tmp_path))
    assert comparison.best(rows, "online k-NN after, %") is None
    assert comparison.best(rows, "skill") == "cim"
    assert comparison.best({"cim": rows["cim"]}, "skill") is None
    assert "**0.200**" in comparison.markdown(read_runs(tmp_path))


def test_what_is_seen_while_training_stands_for_no_evaluation_beside_others(leave, tmp_path):
    leave("0", ["method=mae", "seed=0"], {"knn/mean_k20": 0.5}, **{"val/knn": 0.3})
    leave("1", ["method=mae", "seed=1"], **{"val/knn": 0.7})  # whose evaluation failed
    leave("2", ["method=cim"], {"knn/mean_k20": 0.6}, **{"val/knn": 0.1})
    runs = read_runs(tmp_path)
    rows = comparison.compare(runs)
    assert rows["mae"]["k-NN, %"] == (50, None, 1)
    assert rows["mae"]["online k-NN after, %"].mean == pytest.approx(50)
    assert [column.title for column in comparison.goals(rows)] == ["k-NN, %"]
    assert [comparison.objective(run) for run in runs] == [50, 70, 60]
    alone = comparison.goals(comparison.compare(runs[1:2]))
    assert [column.title for column in alone] == ["online k-NN after, %"]


def test_of_several_numbers_of_neighbors_it_is_the_one_next_to_20(leave, tmp_path):
    leave("0", [], {"knn/mean_k5": 0.1, "knn/mean_k10": 0.2, "knn/pooled_k200": 0.3})
    leave("1", [], {"knn/mean_k10": 0.1, "knn/mean_k20": 0.4, "knn/mean_k200": 0.3})
    found = [{c.title: c.of(run) for c in comparison.COLUMNS} for run in read_runs(tmp_path)]
    assert [one["k-NN, %"] for one in found] == [20, 40]
    assert [one["k-NN pooled, %"] for one in found] == [30, None]


def test_what_is_no_number_is_not_compared(leave, tmp_path):
    leave("0", ["a=1"], **{"val/skill": float("nan")})
    leave("1", ["a=2"], **{"val/skill": 0.5})
    rows = comparison.compare(read_runs(tmp_path))
    assert "skill" not in rows["a=1"]
    assert comparison.best(rows, "skill") is None


def test_memory_is_told_of_gpus_alone(leave, tmp_path):
    leave("0", ["a=1"])
    leave("1", ["a=2"], device="x86_64 CPU")
    rows = comparison.compare(read_runs(tmp_path))
    assert rows["a=1"]["peak GPU GB"].mean == 2
    assert "peak GPU GB" not in rows["a=2"]


def test_nothing_finished_is_told(tmp_path):
    assert comparison.write(tmp_path) == "No run is finished, and none failed."
