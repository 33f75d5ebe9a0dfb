"""Points of results against cost, calculated by hand, and the frontier."""

import dataclasses

import pytest

from cim_lightning.report.columns import ONLINE_KNN
from cim_lightning.report.cost_curves import final_point, frontier, total_costs, training_points
from cim_lightning.report.curves import Curve
from cim_lightning.report.runs import read_runs


@pytest.fixture
def runs(write_run, tmp_path):
    """Runs of 10 and 20 steps of 100 images, 3 GFLOP each, in 20 and 60 seconds."""
    write_run("0", ["seed=0"], **{"val/knn": 30.0})
    write_run("1", ["seed=1"], **{"val/knn": 36.0}, steps=20, images_seen=2000, seconds=60.0)
    return read_runs(tmp_path)


def test_a_point_is_the_mean_of_its_runs(runs):
    point = final_point(runs, ONLINE_KNN)
    assert point is not None
    assert point[1:] == (33, 30, 36, 2)
    expected = {"steps": 15, "images": 1500, "epochs": 3, "TFLOP": 4.5, "seconds": 40}
    assert point.costs == pytest.approx(expected)
    assert final_point([], ONLINE_KNN) is None


def test_a_cost_that_one_run_did_not_record_is_left_out(runs):
    old = dataclasses.replace(runs[0], numbers={"steps": 10, "val/knn": 20.0})
    point = final_point([old, runs[1]], ONLINE_KNN)
    assert point is not None
    assert point.costs == {"steps": 15}
    assert total_costs(old) == {"steps": 10}


def test_points_during_training_leave_out_the_untrained_network(runs):
    curves = [Curve([0, 5, 10], [25.0, 28.0, 30.0]), Curve([0, 10, 20], [25.0, 30.0, 36.0])]
    points = training_points(runs, curves)
    assert [point[1:] for point in points] == [(29, 28, 30, 2), (33, 30, 36, 2)]
    assert [point.costs["TFLOP"] for point in points] == pytest.approx([2.25, 4.5])
    assert [point.costs["seconds"] for point in points] == pytest.approx([20, 40])


def test_the_frontier_is_the_best_run_at_a_cost_or_less(runs):
    pairs = [(100, 30.0), (100, 32.0), (200, 31.0), (300, 35.0), (50, 10.0), (400, 35.0)]
    trials = [
        dataclasses.replace(runs[0], numbers=runs[0].numbers | {"images_seen": images, "val/knn": value})
        for images, value in pairs
    ]
    assert frontier(trials, ONLINE_KNN, "images") == ([50, 100, 300], [10, 32, 35])
    lowest = ONLINE_KNN._replace(higher_is_better=False)
    assert frontier(trials, lowest, "images") == ([50], [10])
