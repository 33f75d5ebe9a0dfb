"""Length and learning rates of a training, by hand."""

import math
from types import SimpleNamespace

import lightning as L
import pytest
from torch import nn

from cim_lightning.doctor.length import Length, length_findings, rate_findings, training_length
from cim_lightning.optim import AdamWCosine


def data(images: int, batch_size: int) -> SimpleNamespace:
    """Return what the findings read of an ImageData."""
    return SimpleNamespace(splits=SimpleNamespace(train=range(images)), batch_size=batch_size)


def trainer(**settings: object) -> L.Trainer:
    return L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **settings)


@pytest.mark.parametrize(
    ("settings", "steps_per_epoch", "steps", "batches"),
    [
        ({"max_epochs": 3}, 31, 93, 186),  # 1000 // 32 steps
        ({"max_epochs": 3, "limit_train_batches": 0.5}, 16, 48, 93),  # half of 62 batches, by two
        ({"max_epochs": 3, "limit_train_batches": 7}, 4, 12, 21),  # the last step has one batch
        ({"max_epochs": -1, "max_steps": 10, "limit_train_batches": 7}, 4, 10, 18),
        ({"max_epochs": -1, "max_steps": 50}, 31, 50, 100),
        ({"max_epochs": 1, "max_steps": 50}, 31, 31, 62),  # what ends first
    ],
)
def test_steps_of_a_training(settings, steps_per_epoch, steps, batches):
    length = training_length(data(1000, 16), trainer(accumulate_grad_batches=2, **settings))
    found = (length.images_per_step, length.steps_per_epoch, length.steps, length.images)
    assert found == (32, steps_per_epoch, steps, 16 * batches)


def test_rows_of_the_length():
    one = trainer(accumulate_grad_batches=2, max_epochs=3)
    rows = {f.name: f.value for f in length_findings(Length(32, 992, 93), data(1000, 16), one)}
    assert rows == {
        "optimizer step": "32 images = 16 per batch x 2 accumulated batches on 1 device",
        "epoch": "31 steps, 992 images; 8 others are left out, other ones in each epoch",
        "training": "93 steps, 3 epochs, 2,976 images",
    }


def test_learning_rates_at_the_start_the_peak_and_the_end():
    optim, length = AdamWCosine(base_lr=1e-3, warmup=0.1), Length(32, 992, 100)
    optimizer, schedule = optim(nn.Linear(2, 3), 32, 100)
    rows = {f.name: f.value for f in rate_findings(optim, optimizer, schedule, length)}
    assert rows["learning rate"] == "0.000125 = base_lr 0.001 x 0.125, for 32 images"
    last = 1.25e-4 * (1 + math.cos(math.pi * 89 / 90)) / 2
    assert "weight decay" not in rows  # it is constant, and in the rows of the groups
    optim = AdamWCosine(weight_decay=0.04, weight_decay_end=0.4)
    *_, row = rate_findings(optim, *optim(nn.Linear(2, 3), 32, 100), length)
    decay = 0.4 - 0.36 * (1 + math.cos(math.pi * 99 / 100)) / 2
    assert row == ("weight decay", f"0.04 at step 0, {decay:.3g} at the last step", "")
    assert rows["schedule"] == f"0 at step 0, 0.000125 at step 10, {last:.3g} at the last step"
