"""The random streams of the networks, such as stochastic depth."""

from typing import Any

import lightning as L
import numpy as np
import torch


class StepSeed(L.Callback):
    """Seeds torch anew before every batch, as a function of seed, device and batches done.

    So a resumed run finds its streams where they stood, whatever drew from them in between: a saved
    generator state would be moved by the loaders that resuming creates.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        done = trainer.fit_loop.epoch_loop.batch_progress.total.processed  # pyright: ignore
        words = np.random.SeedSequence((self.seed, trainer.global_rank, done)).generate_state(2)
        torch.manual_seed(int(words[0]) << 32 | int(words[1]))
