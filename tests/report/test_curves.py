"""Logged curves, and the cost of a step."""

import pytest

from cim_lightning.report.curves import Curve, evenly_spaced, read_curves, step_costs
from cim_lightning.report.runs import read_runs

LOGGED = """step,val/loss,train/loss,val/knn
0,6.0,5.5,0.25
24,,4.0,
49,2.0,3.0,0.5
"""


def test_steps_are_counted_from_1_and_the_validation_before_training_is_at_0(write_run):
    curves = read_curves(write_run("0", [], logged=LOGGED) / "metrics.csv")
    assert curves["val/loss"] == Curve([0, 50], [6, 2])
    assert curves["train/loss"] == Curve([1, 25, 50], [5.5, 4, 3])
    assert curves["val/knn"] == Curve([0, 50], [0.25, 0.5])


@pytest.mark.parametrize(
    "end",
    [
        "74,1.0,1.0",
        "74,1.0,1.0,0.9",
        "74\n",
        "74,1.0,1.0,0.9,3\n",
        ",,,\n",
        "x,1,1,1\n",
        "inf,1,1,1\n",
        "74,nan,,inf\n",
        "\0\n",
    ],
)
def test_incomplete_lines_and_invalid_numbers_are_skipped(write_run, end):
    whole = read_curves(write_run("0", [], logged=LOGGED) / "metrics.csv")
    assert read_curves(write_run("1", [], logged=LOGGED + end) / "metrics.csv") == whole


@pytest.mark.parametrize("text", ["", "step", "a,b\n1,2\n", "step,val/loss\n"])
def test_a_file_without_columns_or_rows_has_no_curves(write_run, tmp_path, text):
    assert read_curves(write_run("0", [], logged=text) / "metrics.csv") == {}
    assert read_curves(tmp_path / "nowhere.csv") == {}


def test_the_cost_of_a_step_is_the_mean_of_its_run(write_run, tmp_path):
    write_run("0", [])  # 10 steps: 1000 images of 500, 3 GFLOP each, 20 seconds
    write_run("1", [], finished=False)
    setup = {"images_per_step": 64, "train_images": 128}
    setup |= {"forward_flops_per_image": 5e10, "backward_flops_per_image": 1e11}
    write_run("2", [], finished=False, setup=setup)
    write_run("3", [], steps=0, images_seen=0, seconds=0)
    finished, old, unfinished, untrained = (step_costs(run) for run in read_runs(tmp_path))
    assert finished == {"steps": 1, "images": 100, "epochs": 0.2, "TFLOP": 0.3, "seconds": 2}
    assert old == {"steps": 1}  # an older version recorded no setup
    assert unfinished == {"steps": 1, "images": 64, "epochs": 0.5, "TFLOP": 9.6}
    (tmp_path / "0" / "metrics.json").write_text('{"steps": 4, "images_seen": 8}')
    assert step_costs(read_runs(tmp_path)[0]) == {"steps": 1, "images": 2}
    assert untrained == {"steps": 1, "images": 0, "epochs": 0, "TFLOP": 0, "seconds": 0}


def test_evenly_spaced_items_include_the_ends():
    items = [*range(101)]
    assert evenly_spaced(items, 5) == [0, 25, 50, 75, 100]
    assert evenly_spaced(items, 101) == items
