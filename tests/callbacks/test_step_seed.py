"""What is drawn in a training step depends on its number, and on nothing that was drawn before."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import torch

from cim_lightning.callbacks.step_seed import StepSeed


def drawn(seed: int = 0, rank: int = 0, done: int = 0) -> float:
    trainer: Any = MagicMock(spec=L.Trainer, global_rank=rank)
    progress = SimpleNamespace(total=SimpleNamespace(processed=done))
    trainer.fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    StepSeed(seed).on_train_batch_start(trainer, None, None, 0)
    return torch.rand(()).item()


def test_a_step_draws_the_same_whatever_was_drawn_in_between():
    first = drawn(done=5)
    torch.rand(100)
    assert drawn(done=5) == first


def test_seeds_devices_and_steps_draw_apart():
    draws = {drawn(*case) for case in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1))}
    assert len(draws) == 6
