"""Metrics of the progress bar, with a clock that the test controls."""

import logging
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import pytest
import torch

from cim_lightning.callbacks import progress
from cim_lightning.callbacks.progress import Progress
from cim_lightning.cropping.correlation_metrics import METRICS as PRETEXT_METRICS
from cim_lightning.metric_registry import register

register(*PRETEXT_METRICS)
METRICS = {
    "train/loss": torch.tensor(1.23456),
    "train/skill": torch.tensor(0.5),
    "train/images_per_s": torch.tensor(1234.0),
    "train/data_wait": torch.tensor(0.0625),
    "train/lr": torch.tensor(1.0),
}


class Run:
    """A run that resumes at step 100 of 200, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, terminal: bool):
        self.now = 1000.0
        monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: self.now))
        stderr = SimpleNamespace(isatty=lambda: terminal)
        monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stderr))
        # the bar itself is Lightning's
        monkeypatch.setattr(progress.TQDMProgressBar, "on_train_start", lambda *args: None)
        monkeypatch.setattr(progress.TQDMProgressBar, "on_train_batch_end", lambda *args: None)
        self.trainer: Any = MagicMock(
            spec=L.Trainer, callback_metrics=METRICS, estimated_stepping_batches=200, is_global_zero=True
        )
        self.trainer.global_step = 100
        self.bar = Progress()
        self.bar.on_train_start(self.trainer, None)

    def at(self, seconds: float, step: int) -> None:
        self.now, self.trainer.global_step = 1000.0 + seconds, step
        self.bar.on_train_batch_end(self.trainer, None, None, None, step)


def test_the_bar_shows_registered_metrics_and_the_time_left(monkeypatch):
    run = Run(monkeypatch, terminal=True)
    metrics = run.bar.get_metrics(run.trainer, None)
    assert metrics == {"loss": "1.23", "skill": "0.5", "img/s": "1.23e+03", "wait": "0.0625", "left": "?"}


def test_the_bar_shows_the_metrics_of_dino(monkeypatch):
    run = Run(monkeypatch, terminal=True)
    run.trainer.callback_metrics = {"train/target_perplexity": torch.tensor(12.5)}
    assert run.bar.get_metrics(run.trainer, None) == {"target perplexity": "12.5", "left": "?"}


def test_the_time_left_counts_from_the_first_step_of_this_process(monkeypatch):
    run = Run(monkeypatch, terminal=True)
    run.at(50, step=110)  # 5 s per step, 90 steps left
    assert run.bar.get_metrics(run.trainer, None)["left"] == "0:07:30"


def test_without_a_terminal_two_lines_per_minute_are_logged(monkeypatch, caplog):
    run = Run(monkeypatch, terminal=False)
    with caplog.at_level(logging.INFO, "cim_lightning"):
        for second in range(1, 91):
            run.at(second, step=100 + second)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith("step 131/200  loss 1.23")
    assert run.bar.is_disabled


def test_with_a_terminal_no_lines_are_logged(monkeypatch, caplog):
    run = Run(monkeypatch, terminal=True)
    with caplog.at_level(logging.INFO, "cim_lightning"):
        run.at(1000, step=150)
    assert caplog.records == []
    assert run.bar.is_enabled
