"""The bar's figures, by a clock that only the test moves."""

import logging
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import pytest
import torch

from cim_lightning.callbacks import progress
from cim_lightning.callbacks.progress import Progress

METRICS = {
    "train/loss": torch.tensor(1.23456),
    "train/skill": torch.tensor(0.5),
    "train/images_per_s": torch.tensor(1234.0),
    "train/data_wait": torch.tensor(0.0625),
    "train/lr": torch.tensor(1.0),
}


class Run:
    """A run that goes on at step 100 of 200, beside a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, terminal: bool):
        self.now = 1000.0
        monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: self.now))
        stderr = SimpleNamespace(isatty=lambda: terminal)
        monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stderr))
        # Lightning's own bar is Lightning's to test
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


def test_the_figures_are_loss_skill_speed_and_wait(monkeypatch):
    run = Run(monkeypatch, terminal=True)
    figures = run.bar.get_metrics(run.trainer, None)
    assert figures == {"loss": "1.23", "skill": "0.5", "img/s": "1.23e+03", "wait": "0.0625", "left": "?"}


def test_time_to_go_counts_from_where_this_process_began(monkeypatch):
    run = Run(monkeypatch, terminal=True)
    run.at(50, step=110)  # 5 s a step, 90 to go
    assert run.bar.get_metrics(run.trainer, None)["left"] == "0:07:30"


def test_without_a_terminal_a_line_is_logged_twice_a_minute(monkeypatch, caplog):
    run = Run(monkeypatch, terminal=False)
    with caplog.at_level(logging.INFO, "cim_lightning"):
        for second in range(1, 91):
            run.at(second, step=100 + second)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith("step 131/200  loss 1.23")
    assert run.bar.is_disabled


def test_a_terminal_gets_no_lines(monkeypatch, caplog):
    run = Run(monkeypatch, terminal=True)
    with caplog.at_level(logging.INFO, "cim_lightning"):
        run.at(1000, step=150)
    assert caplog.records == []
    assert run.bar.is_enabled
