"""Settings of the trainer that Lightning accepts, and that change the training without a word."""

import pytest

from cim_lightning.config.trainer_settings import check_trainer
from cim_lightning.errors import ConfigError

LIMIT = "must be a share, .* or a number of batches"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accumulate_grad_batches": 0}, "trainer.accumulate_grad_batches=0: must be at least 1"),
        ({"check_val_every_n_epoch": 0}, "trainer.check_val_every_n_epoch=0: must be at least 1"),
        ({"check_val_every_n_epoch": None}, None),
        ({"check_val_every_n_epoch": 9}, None),
        ({"check_val_every_n_epoch": 10}, r"trainer.check_val_every_n_epoch=10: .*check_val_every_n_epoch=9"),
        ({"check_val_every_n_epoch": 10, "limit_val_batches": 0}, None),
        ({"check_val_every_n_epoch": 10, "max_steps": 500}, None),
        ({"log_every_n_steps": -1}, "trainer.log_every_n_steps=-1: must be at least 0"),
        ({"precision": "bf16-true"}, "trainer.precision=bf16-true: .*; try trainer.precision=bf16-mixed"),
        ({"precision": "64-true"}, "trainer.precision=64-true: .*; try trainer.precision=32-true"),
        ({"precision": 64}, "trainer.precision=64-true: .*; try trainer.precision=32-true"),
        ({"precision": "32-true"}, None),
        ({"precision": "16-mixed"}, None),
        ({"gradient_clip_val": -1}, "trainer.gradient_clip_val=-1: must be above 0; null turns clipping off"),
        ({"gradient_clip_val": 0.0}, "trainer.gradient_clip_val=0.0: must be above 0"),
        ({"gradient_clip_val": float("nan")}, "trainer.gradient_clip_val=nan: must be above 0"),
        ({"gradient_clip_val": None}, None),
        ({"limit_train_batches": 0}, f"trainer.limit_train_batches=0: {LIMIT}, at least 1"),
        ({"limit_train_batches": 0.0}, f"trainer.limit_train_batches=0.0: {LIMIT}"),
        ({"limit_train_batches": -1}, f"trainer.limit_train_batches=-1: {LIMIT}"),
        ({"limit_train_batches": 1.5}, f"trainer.limit_train_batches=1.5: {LIMIT}"),
        ({"limit_train_batches": 0.1}, None),
        ({"limit_train_batches": 7}, None),
        ({"limit_val_batches": 0}, None),
        ({"limit_val_batches": 0.0}, None),
        ({"limit_val_batches": -2}, f"trainer.limit_val_batches=-2: {LIMIT}, at least 0"),
        ({"max_epochs": -1}, "trainer.max_epochs=-1: the schedule needs an end; try trainer.max_epochs=300"),
        ({"max_epochs": None}, "trainer.max_epochs=null: the schedule needs an end"),
        ({"max_epochs": 0}, "trainer.max_epochs=0: must be at least 1; .*method=random"),
        ({"max_epochs": -2}, "trainer.max_epochs=-2: must be at least 1"),
        ({"max_epochs": -1, "max_steps": -1}, "trainer.max_epochs=-1"),
        ({"max_epochs": -1, "max_steps": 9}, None),
        ({"max_steps": 0}, "trainer.max_steps=0: must be at least 1; -1 sets no limit"),
    ],
)
def test_settings_of_the_trainer_that_pretraining_does_not_support(settings, message):
    settings = {"max_epochs": 9, **settings}
    if message:
        with pytest.raises(ConfigError, match=f"^{message}"):
            check_trainer(settings, has_length=False)
    else:
        check_trainer(settings, has_length=False)


def test_a_budget_is_an_end_of_the_schedule():
    check_trainer({"max_epochs": -1}, has_length=True)
