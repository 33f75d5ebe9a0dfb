"""Seeds of the random layers of a network, such as stochastic depth, in training and in validation."""

from typing import Any

import lightning as L
import numpy as np
import torch

from cim_lightning.checks import check_at_least
from cim_lightning.lightning_internals import batches_processed


class StepSeed(L.Callback):
    """Seed torch before every batch from the seed, the rank, the stage and the number of the batch.

    A resumed run thus draws the same numbers. A restored generator would not suffice: new data loaders draw
    from it. Training batches are counted from the start of the run, and validation batches from the start of
    a validation, so that every validation draws the same numbers.

    Args:
        seed: seed of the run.
    """

    def __init__(self, seed: int):
        check_at_least("seed", seed, 0)
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        seed_torch(step_seed(self.seed, trainer.global_rank, batches_processed(trainer)), pl_module.device)

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        seed_torch(step_seed(self.seed, trainer.global_rank, batch_idx, validation=True), pl_module.device)


def step_seed(seed: int, rank: int, batch: int, validation: bool = False) -> int:
    """Return the seed of a batch.

    Args:
        seed: of the run.
        rank: of the process.
        batch: batches of this process since the start of the run, or of the validation.
        validation: validation draws other numbers than training.
    """
    stream = (1,) if validation else ()
    words = np.random.SeedSequence((seed, rank, batch), spawn_key=stream).generate_state(2)
    return int(words[0]) << 32 | int(words[1])


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of a device.

    `torch.manual_seed` seeds those of all kinds of devices. For each kind that is not in use, it formats a
    stack trace, which takes longer than everything else around a small step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)
    elif device.type != "cpu":
        torch.manual_seed(seed)
