"""The table of several runs, beside means and deviations worked out by hand."""

import csv
import shutil

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
    assert mae["k-NN, %"].mean == pytest.approx(32)
    assert mae["k-NN, %"].deviation == pytest.approx(8**0.5)  # of 30 and 34
    assert mae["probe, %"].mean == pytest.approx(60)
    assert mae["online k-NN after, %"] == mae["k-NN, %"]  # where no evaluation measured another
    assert mae["epochs"].mean == 2
    assert mae["GFLOP an image"].mean == 3
    assert mae["TFLOP in all"].mean == 3
    assert "skill" not in mae
    assert cim["skill"] == (0.125, None, 1)


def test_the_page_is_a_row_a_setting_and_leaves_out_what_nobody_measured(leave, tmp_path):
    two_methods(leave)
    leave("3", ["method=cim", "seed=1"], {"knn/mean_k20": 0.6}, **{"val/knn": 0.4, "val/skill": 0.125})
    assert comparison.compare(read_runs(tmp_path)[3:])["cim"]["k-NN, %"].mean == pytest.approx(60)
    shutil.rmtree(tmp_path / "3")
    head, rule, mae, cim = comparison.markdown(read_runs(tmp_path)).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, mae, cim)]
    assert len({len(row) for row in cells}) == 1
    assert rule.count("---") == len(cells[0])
    titles = cells[0]
    assert "k-NN pooled, %" not in titles
    assert cells[1][:2] == ["mae", "2"]
    assert cells[1][titles.index("k-NN, %")] == "32.0 ± 2.8"
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
    assert float(rows[1]["k-NN, %"]) == pytest.approx(34)


def test_the_best_is_one_alone(leave, tmp_path):
    for job, (method, knn, skill) in enumerate([("mae", 0.5, 0.1), ("cim", 0.5, 0.2)]):
        leave(str(job), [f"method={method}"], **{"val/knn": knn, "val/skill": skill, "val/knn_pooled": 0.5})
    rows = comparison.compare(read_runs(tmp_path))
    assert comparison.best(rows, "k-NN, %") is None
    assert comparison.best(rows, "skill") == "cim"
    assert comparison.best({"cim": rows["cim"]}, "skill") is None
    assert "**0.200**" in comparison.markdown(read_runs(tmp_path))


def test_no_finished_run_makes_no_table(tmp_path):
    assert comparison.write(tmp_path) is None
    assert not list(tmp_path.iterdir())
