"""Images per second and data wait, with a clock that the test controls."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import pytest
import torch

from cim_lightning.callbacks import throughput
from cim_lightning.callbacks.throughput import WINDOW, Throughput


class Run:
    """A run on two devices with batches of 8, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now = 0.0
        self.logged: list[dict[str, Any]] = []
        monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: self.now))
        self.callback = Throughput()
        self.trainer = MagicMock(spec=L.Trainer, world_size=2)
        self.module = MagicMock(spec=L.LightningModule, log_dict=self.logged.append)

    def batch(self, start: float, end: float) -> None:
        batch = (torch.zeros(8), torch.zeros(8))
        self.now = start
        self.callback.on_train_batch_start(self.trainer, self.module, batch, 0)
        self.now = end
        self.callback.on_train_batch_end(self.trainer, self.module, None, batch, 0)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(monkeypatch)


def test_the_first_batch_logs_nothing(run):
    run.batch(0, 3)
    assert run.logged == []


def test_a_step_lasts_from_the_end_of_one_batch_to_the_end_of_the_next(run):
    run.batch(0, 3)
    run.batch(4, 7)  # 1 of 4 seconds waited, 16 images on two devices
    run.batch(7, 9)
    assert run.logged[0] == {"train/images_per_s": 4.0, "train/data_wait": 0.25}
    assert run.logged[1] == {"train/images_per_s": 32 / 6, "train/data_wait": 1 / 6}


@pytest.mark.parametrize("pause", ["on_validation_end", "on_train_epoch_start"])
def test_validation_and_a_new_epoch_do_not_count(run, pause):
    run.batch(0, 1)
    run.batch(1, 2)
    getattr(run.callback, pause)(run.trainer, run.module)
    run.batch(100, 101)
    run.batch(102, 103)
    assert len(run.logged) == 2
    assert run.logged[1] == {"train/images_per_s": 32 / 3, "train/data_wait": 1 / 3}


def test_values_are_averages_over_the_last_steps(run):
    run.batch(0, 1000)
    run.batch(1000, 2000)
    for i in range(WINDOW):
        run.batch(2000 + 2 * i, 2002 + 2 * i)
    assert run.logged[-1]["train/images_per_s"] == 8
