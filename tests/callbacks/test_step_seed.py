"""Random numbers of a training step depend on its number, not on earlier draws."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import torch

from cim_lightning.callbacks.step_seed import StepSeed


def draw(seed: int = 0, rank: int = 0, processed: int = 0) -> float:
    trainer: Any = MagicMock(spec=L.Trainer, global_rank=rank)
    progress = SimpleNamespace(total=SimpleNamespace(processed=processed))
    trainer.fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    StepSeed(seed).on_train_batch_start(trainer, None, None, 0)
    return torch.rand(()).item()


def test_a_step_draws_the_same_numbers_after_other_draws():
    first = draw(processed=5)
    torch.rand(100)
    assert draw(processed=5) == first


def test_seeds_ranks_and_steps_draw_different_numbers():
    draws = {draw(*case) for case in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1))}
    assert len(draws) == 6
