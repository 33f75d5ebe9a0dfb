"""Curves read back, and put against what they cost."""

import pytest

from cim_lightning.report.curves import Curve, read_curves, step_costs, thinned
from cim_lightning.report.runs import read_begun

LOGGED = """step,val/loss,train/loss,val/knn
0,6.0,5.5,0.25
24,,4.0,
49,2.0,3.0,0.5
"""


def test_steps_are_counted_once_done_and_the_untrained_validation_stands_at_none(leave):
    curves = read_curves(leave("0", [], logged=LOGGED) / "metrics.csv")
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
        "74,nan,,inf\n",
        "\0\n",
    ],
)
def test_half_lines_and_what_is_no_number_are_passed_over(leave, end):
    whole = read_curves(leave("0", [], logged=LOGGED) / "metrics.csv")
    assert read_curves(leave("1", [], logged=LOGGED + end) / "metrics.csv") == whole


@pytest.mark.parametrize("text", ["", "step", "a,b\n1,2\n", "step,val/loss\n"])
def test_a_file_without_a_curve_has_none(leave, tmp_path, text):
    assert read_curves(leave("0", [], logged=text) / "metrics.csv") == {}
    assert read_curves(tmp_path / "nowhere.csv") == {}


def test_a_step_costs_the_mean_of_its_run(leave, tmp_path):
    leave("0", [])  # 10 steps: 1000 images of 500, 3 GFLOP each, 20 seconds
    leave("1", [], finished=False)
    known = {"images_per_step": 64, "train_images": 128}
    known |= {"forward_flops_per_image": 5e10, "backward_flops_per_image": 1e11}
    leave("2", [], finished=False, begun=known)
    leave("3", [], steps=0, images_seen=0, seconds=0)
    done, old, begun, untrained = (step_costs(run) for run in read_begun(tmp_path))
    assert done == {"steps": 1, "images": 100, "epochs": 0.2, "TFLOP": 0.3, "seconds": 2}
    assert old == {"steps": 1}  # of a version that did not record when it began
    assert begun == {"steps": 1, "images": 64, "epochs": 0.5, "TFLOP": 9.6}
    (tmp_path / "0" / "metrics.json").write_text('{"steps": 4, "images_seen": 8}')
    assert step_costs(read_begun(tmp_path)[0]) == {"steps": 1, "images": 2}
    assert untrained == {"steps": 1, "images": 0, "epochs": 0, "TFLOP": 0, "seconds": 0}


def test_thinning_keeps_the_ends():
    curve = Curve([*range(101)], [*map(float, range(101))])
    assert thinned(curve, 5) == Curve([0, 25, 50, 75, 100], [0, 25, 50, 75, 100])
    assert thinned(curve, 101) is curve
