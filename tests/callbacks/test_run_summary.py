"""Summary of a run, with a clock that the test controls, and across interruptions."""

import json
import math
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import pytest
import torch

from cim_lightning.callbacks import run_summary
from cim_lightning.callbacks.run_summary import RunSummary, table
from cim_lightning.cropping.correlation_metrics import METRICS as PRETEXT_METRICS
from cim_lightning.flops import Flops
from cim_lightning.methods.dino import DINO
from cim_lightning.metric_registry import register

register(*PRETEXT_METRICS, *DINO.metrics)
BATCH = (torch.zeros(8), torch.zeros(8))
METHOD: Any = SimpleNamespace(device=torch.device("cpu"), global_batch_size=48, batch_size=8)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(run_summary, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


def trainer(fn: str = "fit", **metrics: float) -> Any:
    mock: Any = MagicMock(
        spec=L.Trainer,
        world_size=2,
        is_global_zero=True,
        interrupted=False,
        max_steps=-1,
        precision="32-true",
        accumulate_grad_batches=3,
    )
    mock.state, mock.global_step, mock.current_epoch = SimpleNamespace(fn=fn), 30, 3
    mock.datamodule = SimpleNamespace(splits=SimpleNamespace(train=range(50)), dummy_batch=torch.zeros)
    mock.callback_metrics = {
        name.replace("_", "/", 1): torch.tensor(value) for name, value in metrics.items()
    }
    return mock


def test_seconds_are_those_of_training_and_of_waiting_for_data(clock, tmp_path):
    summary = RunSummary(str(tmp_path))
    summary.setup(trainer(), METHOD, "fit")
    for start, end in ((10, 12), (15, 16)):  # 2 s, then 3 s of waiting and 1 s
        clock.seconds = start
        summary.on_train_batch_start(trainer(), None, BATCH, 0)
        clock.seconds = end
        summary.on_train_batch_end(trainer(), None, None, BATCH, 0)
    summary.on_validation_end(trainer(), None)
    clock.seconds = 100
    summary.on_train_batch_start(trainer(), None, BATCH, 0)
    clock.seconds = 101
    summary.on_train_batch_end(trainer(), None, None, BATCH, 0)
    assert summary.seconds == 7
    assert summary.images == 3 * 8 * 2


@pytest.fixture(autouse=True)
def _flops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_summary, "flops_per_image", lambda method, data: Flops(3.0, 6.0))


def fit(summary: RunSummary, **metrics: float) -> None:
    summary.setup(trainer(), METHOD, "fit")
    summary.on_train_epoch_end(trainer(**metrics), None)
    summary.on_fit_end(trainer(), METHOD)


def test_the_setup_is_in_run_json_before_the_first_step_and_in_metrics_json(tmp_path):
    summary = RunSummary(str(tmp_path))
    (tmp_path / "run.json").write_text('{"command": "cim-pretrain", "setup": {"torch": "old"}}')
    summary.setup(trainer(), METHOD, "fit")
    summary.on_fit_start(trainer(), METHOD)
    info = json.loads((tmp_path / "run.json").read_text())
    assert info["command"] == "cim-pretrain"
    setup = info["setup"]
    assert setup["torch"] != "old"
    assert not (tmp_path / "metrics.json").exists()
    assert (setup["train_images"], setup["images_per_step"]) == (50, 48)
    assert (setup["forward_flops_per_image"], setup["backward_flops_per_image"]) == (3, 6)
    assert {"torch", "git_commit", "device"} <= setup.keys()
    fit(summary)
    assert setup.items() <= json.loads((tmp_path / "metrics.json").read_text()).items()


def test_first_and_last_validation_are_in_metrics_json(tmp_path):
    summary = RunSummary(str(tmp_path))
    summary.on_validation_end(trainer("validate", val_skill=-0.5, train_loss=1.0), None)
    summary.on_validation_end(trainer(val_skill=0.1), None)
    fit(summary, val_skill=0.25, train_loss=0.75, other_x=3.0)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["initial/skill"] == -0.5
    assert metrics["val/skill"] == 0.25
    assert metrics["train/loss"] == 0.75
    assert "other/x" not in metrics
    assert (metrics["steps"], metrics["epochs"], metrics["devices"]) == (30, 4, 2)  # epoch 3 is the fourth
    assert (metrics["forward_flops_per_image"], metrics["backward_flops_per_image"]) == (3, 6)
    assert metrics["train_images"] == 50


def test_a_metric_that_is_not_finite_is_null_and_reported(tmp_path, caplog):
    fit(RunSummary(str(tmp_path)), val_skill=math.nan, val_iou=0.5, train_loss=math.inf)
    metrics = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert (metrics["val/skill"], metrics["val/iou"], metrics["train/loss"]) == (None, 0.5, None)
    lines = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert lines == [
        "not finite, and null in metrics.json: val/skill, train/loss; try a lower learning rate, or fp32"
    ]


def test_a_run_without_a_step_has_equal_first_and_last_validations(tmp_path):
    summary = RunSummary(str(tmp_path))
    summary.on_validation_end(trainer("validate", val_knn=0.25), None)
    summary.on_fit_end(trainer(), METHOD)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["initial/knn"] == metrics["val/knn"] == 0.25


def test_a_resumed_run_continues_its_summary(tmp_path):
    first, second = RunSummary(str(tmp_path)), RunSummary(str(tmp_path))
    first.on_validation_end(trainer("validate", val_skill=-0.5), None)
    first.on_train_epoch_end(trainer(val_skill=0.5, train_loss=2.0), None)
    first.seconds, first.images, first.epochs = 12.5, 640, 7
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))  # plain values only
    second.setup(trainer(), METHOD, "fit")
    second.on_fit_end(trainer(), METHOD)  # no step left to train
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["seconds"], metrics["images_seen"], metrics["images_per_s"]) == (12.5, 640, 51.2)
    assert (metrics["initial/skill"], metrics["val/skill"], metrics["train/loss"]) == (-0.5, 0.5, 2.0)
    assert metrics["epochs"] == 7


@pytest.mark.parametrize("state", [{"interrupted": True}, {"is_global_zero": False}])
def test_an_interrupted_run_and_other_devices_write_no_files(state, tmp_path):
    run = trainer()
    for name, value in state.items():
        setattr(run, name, value)
    RunSummary(str(tmp_path)).on_fit_end(run, None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("step", "stops"), [(11, False), (12, True)])
def test_the_last_of_max_steps_stops_with_a_validation(clock, step, stops, tmp_path):
    run = trainer()
    run.max_steps, run.global_step, run.should_stop = 12, step, False
    RunSummary(str(tmp_path)).on_train_batch_end(run, None, None, BATCH, 0)
    assert run.should_stop is stops


def test_the_table_has_before_after_and_the_baseline():
    metrics = {
        "initial/iou": 0.1,
        "val/iou": 0.5,
        "val/iou_baseline": 0.45,
        "val/knn": 75.0,
        "images_seen": 12345,
        "seconds": 61.4,
        "images_per_s": 201.0,
        "device": "a CPU",
    }
    head, iou, knn, cost = table(metrics).splitlines()
    assert head.split() == ["before", "after", "baseline"]
    assert knn.split() == ["k-NN", "accuracy", "75.0", "%"]
    assert iou.split() == ["IoU", "0.100", "0.500", "0.450"]
    assert cost == "12,345 images in 61 s of training (201 images/s on a CPU)"


def test_the_table_has_the_metrics_of_dino():
    metrics = {"initial/target_entropy": 4.0, "val/target_entropy": 0.5, "val/target_perplexity": 12.0}
    metrics |= {"images_seen": 1, "seconds": 1.0, "images_per_s": 1.0, "device": "a CPU"}
    _, entropy, perplexity, _ = table(metrics).splitlines()
    assert entropy.split() == ["target", "entropy", "4.000", "0.500"]
    assert perplexity.split() == ["target", "perplexity", "12.0"]
