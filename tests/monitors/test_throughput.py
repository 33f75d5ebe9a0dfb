"""Throughput against a clock that the test turns."""

from unittest.mock import Mock

import lightning as L
import pytest
import torch

from cim_lightning.monitors import throughput
from cim_lightning.monitors.throughput import Throughput


@pytest.fixture
def train(make_trainer, clock):
    """Trains on a batch of 8 images; returns what was logged."""
    monitor = Throughput()

    def step(wait: float, work: float, world_size: int = 1) -> dict[str, float] | None:
        trainer, module = make_trainer(world_size=world_size), Mock(spec=L.LightningModule)
        batch = (None, torch.zeros(8))
        clock(wait)
        monitor.on_train_batch_start(trainer, module, batch, 0)
        clock(work)
        monitor.on_train_batch_end(trainer, module, None, batch, 0)
        return module.log_dict.call_args.args[0] if module.log_dict.called else None

    step.monitor = monitor
    return step


def test_the_first_batch_says_nothing(train):
    assert train(5, 1) is None


def test_images_a_second_and_the_share_of_time_waited(train):
    train(5, 1)
    assert train(1, 3) == {"train/images_per_s": 2, "train/data_wait": 0.25}


def test_figures_average_over_time_not_over_batches(train):
    train(5, 1)
    train(0, 1)
    assert train(3, 4) == {"train/images_per_s": 2, "train/data_wait": 3 / 8}


def test_images_of_all_devices_count(train):
    train(0, 1, world_size=4)
    assert train(0, 1, world_size=4) == {"train/images_per_s": 32, "train/data_wait": 0}


@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_validation_end"])
def test_validation_and_the_gap_between_epochs_count_to_neither(train, make_trainer, hook):
    train(5, 1)
    train(1, 3)
    getattr(train.monitor, hook)(make_trainer(), Mock(spec=L.LightningModule))
    assert train(1000, 1) is None
    assert train(1, 3) == {"train/images_per_s": 2, "train/data_wait": 0.25}


def test_old_steps_are_forgotten(train, monkeypatch):
    for _ in range(throughput.WINDOW + 1):
        train(1, 99)
    for _ in range(throughput.WINDOW - 1):
        assert train(1, 3)["train/images_per_s"] < 2
    assert train(1, 3) == {"train/images_per_s": 2, "train/data_wait": 0.25}
