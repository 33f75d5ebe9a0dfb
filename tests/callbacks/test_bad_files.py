"""The callback that lists the images that cannot be decoded in the folder of a run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import pytest
import torch
from PIL import Image

from cim_lightning.callbacks.bad_files import BadFiles
from cim_lightning.data.bad_images import BadImages
from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.source import Splits
from cim_lightning.errors import BadImageError


class Images:
    """Images of which some cannot be decoded."""

    classes = None

    def __init__(self, count: int, *bad: str):
        self.count, self.bad = count, bad

    def __len__(self) -> int:
        return self.count

    def path(self, index: int) -> str:
        return f"{self.count}-{index}"

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if self.path(index) in self.bad:
            raise BadImageError("truncated", repr(self.path(index)))
        return Image.new("RGB", (4, 4)), -1


class Module(L.LightningModule):
    """A module that learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.weight

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def names(folder: Path) -> list[str]:
    return [line.partition(",")[0] for line in (folder / "bad_files.csv").read_text().splitlines()[1:]]


def run(folder: Path, *bad: str, epochs: int, checkpoint: Path | None = None) -> L.Trainer:
    """Train on 40 images, and validate on 20 before, unless the run is resumed."""
    splits = Splits(Images(40, *bad), Images(20, *bad))
    data = ImageData(lambda: splits, lambda views, seeds: views, batch_size=8, view_size=4)
    off = dict.fromkeys(
        ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
    )
    trainer = L.Trainer(
        accelerator="cpu", callbacks=[BadFiles(str(folder))], max_epochs=epochs, num_sanity_val_steps=0, **off
    )
    module = Module()
    if checkpoint is None:
        trainer.validate(module, datamodule=data, verbose=False)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    return trainer


@pytest.mark.fault(
    "process", "a run with damaged images is resumed", "`bad_files.csv` continues; each image has one row"
)
def test_a_resumed_run_adds_to_the_file_and_a_new_one_starts_it(tmp_path, caplog):
    last = tmp_path / "last.ckpt"
    run(tmp_path, "20-3", "40-5", epochs=1).save_checkpoint(last)
    assert names(tmp_path) == ["20-3", "40-5"]
    run(tmp_path, "20-3", "40-5", "40-8", epochs=2, checkpoint=last)
    assert names(tmp_path) == ["20-3", "40-5", "40-8"]
    lines = [message for message in caplog.messages if "could not be decoded" in message]
    assert lines == [f"{n} of 60 images could not be decoded: {tmp_path}/bad_files.csv" for n in (2, 3)]
    run(tmp_path, "40-9", epochs=1)
    assert names(tmp_path) == ["40-9"]


def test_without_bad_images_there_is_no_file(tmp_path, caplog):
    run(tmp_path, epochs=1)
    assert not (tmp_path / "bad_files.csv").exists()
    assert not [message for message in caplog.messages if "decoded" in message]


def test_the_other_processes_keep_the_rows_of_the_first(tmp_path):
    first, second = BadImages(), BadImages()
    for rank, images in enumerate((first, second)):
        trainer: Any = MagicMock(spec=L.Trainer, ckpt_path=None, is_global_zero=rank == 0)
        trainer.datamodule = SimpleNamespace(bad_images=images)
        BadFiles(str(tmp_path)).on_fit_start(trainer, None)
        images.add("ab"[rank], "truncated")
    assert names(tmp_path) == ["a", "b"]
