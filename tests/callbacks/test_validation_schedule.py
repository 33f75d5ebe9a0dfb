"""Schedule of callbacks that do not run in every validation."""

import pytest

from cim_lightning.callbacks.validation_schedule import is_due


@pytest.mark.parametrize(
    ("epoch", "step", "due"),
    [
        (0, 10, False),
        (1, 20, False),
        (2, 30, True),
        (3, 40, False),
        (5, 60, True),
        (7, 80, True),  # the last epoch
        (6, 100, True),  # the last step
    ],
)
def test_every_third_epoch_and_the_last_validation_are_due(make_trainer, epoch, step, due):
    assert is_due(make_trainer(max_epochs=8, current_epoch=epoch, global_step=step), 3) is due


def test_validation_before_training_is_due(make_trainer):
    assert is_due(make_trainer("validate", max_epochs=8, current_epoch=0, global_step=0), 3)
