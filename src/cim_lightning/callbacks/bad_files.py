"""`bad_files.csv` in the folder of a run: the images that could not be decoded."""

from pathlib import Path
from typing import Any

import lightning as L

from cim_lightning.data.bad_images import FILE, BadImages


class BadFiles(L.Callback):
    """List the images that cannot be decoded in `bad_files.csv`, and count them at the end.

    A run without such images has no file. A resumed run adds to the file.

    Args:
        folder: folder of the file.
    """

    def __init__(self, folder: str):
        self.file = Path(folder) / FILE

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        if stage == "validate":  # before the training
            self._open(trainer, is_resumed=False)

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._open(trainer, trainer.ckpt_path is not None)  # Lightning sets it after setup
        trainer.strategy.barrier()  # the other processes write after the first has removed an earlier file

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        images = _bad_images(trainer)
        if images is not None and trainer.is_global_zero:
            images.log_count(sum(map(len, trainer.datamodule.splits[:2])))  # pyright: ignore

    def _open(self, trainer: L.Trainer, is_resumed: bool) -> None:
        if (images := _bad_images(trainer)) is not None:
            images.open(self.file, keep=is_resumed or not trainer.is_global_zero)


def _bad_images(trainer: L.Trainer) -> BadImages | None:
    """Return the bad images of the trainer's ImageData; None if it trains on other data loaders."""
    return getattr(getattr(trainer, "datamodule", None), "bad_images", None)
