"""Metrics that a callback monitors must be logged, and selected in their better direction."""

import inspect
from types import SimpleNamespace

import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from cim_lightning.callbacks.knn import OnlineKNN
from cim_lightning.callbacks.throughput import Throughput
from cim_lightning.config.monitors import check_monitors
from cim_lightning.errors import ConfigError
from cim_lightning.methods.cim import CIM

KNN = OnlineKNN(every_n_epochs=10, num_train=5, num_val=5, k=1, temperature=0.1)
METHOD = SimpleNamespace(metrics=CIM.metrics)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"monitor": "val/loss"}, None),
        ({"monitor": "train/data_wait"}, None),
        ({"monitor": "val/iou", "mode": "max"}, None),
        ({"monitor": "val/knn", "mode": "max", "every_n_epochs": 20}, None),
        ({}, None),
        pytest.param(
            {"monitor": "val/los"},
            r"callbacks\.best\.monitor=val/los: this run .* such a metric; did you mean val/loss\?$",
            marks=pytest.mark.user_input("value", "`callbacks.best.monitor=foo`", "refused before training"),
        ),
        ({"monitor": "val/exemplar_sensitivity", "mode": "max"}, None),
        (
            {"monitor": "train/exemplar_sensitivity", "mode": "max"},
            r"callbacks\.best\.monitor=train/exemplar_sensitivity: .*; did you mean val/exemplar_sens",
        ),
        ({"monitor": "val/accuracy"}, r"callbacks\.best\.monitor=val/accuracy: "),  # of another method
        (
            {"monitor": "val/iou"},
            r"callbacks\.best\.mode=min: larger values of val/iou .*; try \+callbacks\.best\.mode=max",
        ),
        ({"monitor": "val/loss", "every_n_train_steps": 5}, None),
        (
            {"monitor": "train/loss", "every_n_train_steps": 5},
            r"callbacks\.best\.monitor=train/loss: inside an epoch, .*; try callbacks\.best\.monitor=val",
        ),
        ({"monitor": "val/loss", "mode": "max"}, r"callbacks\.best\.mode=max: smaller values"),
        (
            {"monitor": "val/knn", "mode": "max"},
            r"callbacks\.best\.monitor=val/knn: it is logged every 10 epochs only; "
            r"try \+callbacks\.best\.every_n_epochs=10",
        ),
        ({"monitor": "val/knn", "mode": "max", "every_n_epochs": 15}, r"callbacks\.best\.monitor=val/knn: "),
    ],
)
def test_a_checkpoint_selects_by_a_logged_metric(settings, message):
    callbacks = {
        "callbacks.best": ModelCheckpoint(**settings),
        "callbacks.knn": KNN,
        "callbacks.throughput": Throughput(),
    }
    if message is None:
        check_monitors(callbacks, METHOD)
    else:
        with pytest.raises(ConfigError, match=f"^{message}"):
            check_monitors(callbacks, METHOD)


def test_a_callback_that_stops_a_run_is_checked_too():
    with pytest.raises(ConfigError, match=r"^callbacks\.stop\.mode=min: larger values of val/skill"):
        check_monitors({"callbacks.stop": EarlyStopping("val/skill")}, METHOD)
    check_monitors({"callbacks.stop": EarlyStopping("val/skill", mode="max")}, METHOD)


def test_the_metrics_of_callbacks_of_other_packages_are_not_known():
    class Mine(OnlineKNN):
        pass

    Mine.__module__ = "mine.callbacks"
    mine = Mine(every_n_epochs=1, num_train=5, num_val=5, k=1, temperature=0.1)
    check_monitors({"callbacks.mine": mine, "callbacks.best": ModelCheckpoint(monitor="val/mine")}, METHOD)


def test_the_callbacks_log_what_they_say():
    """`logged_metrics` are the names that the callbacks log."""
    for callback in (OnlineKNN, Throughput):
        source = inspect.getsource(callback)
        assert all(source.count(f'"{name}"') == 2 for name in callback.logged_metrics)
