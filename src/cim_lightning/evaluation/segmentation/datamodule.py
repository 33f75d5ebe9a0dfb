"""Data modules of segmentation: random crops for training, whole images for validation."""

from collections.abc import Sequence
from typing import Any

import lightning as L
from torch.utils.data import DataLoader

from cim_lightning.data.eval_batches import even_batches
from cim_lightning.data.loader import Loading
from cim_lightning.data.resumable import ResumableData, device_and_count
from cim_lightning.data.segmentation import MaskSource
from cim_lightning.data.segmentation_batches import MaskSample, MaskSamples, StepBatchSampler, mask_loader
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.segmentation.crops import MaskCrops, RandomScaleCrop
from cim_lightning.models.backbone import Backbone


class TrainingCrops(ResumableData):
    """Random crops of images with masks; one Lightning epoch is the whole training.

    The crops of an optimizer step depend on the seed and the number of the step, not on the number of devices
    or of accumulated batches. Training resumes with the remaining crops.

    Args:
        source: of images and masks.
        indices: of the training images.
        crops: applied on the device.
        backbone: normalizes the crops.
        batch_size: crops per optimizer step, over all devices and accumulated batches.
        steps: optimizer steps.
        loading: number of workers and time limit.
        seed: of order and crops.
    """

    def __init__(
        self,
        source: MaskSource,
        indices: Sequence[int],
        crops: RandomScaleCrop,
        backbone: Backbone,
        batch_size: int,
        steps: int,
        loading: Loading,
        seed: int,
    ):
        super().__init__()
        self.samples, self.indices, self.crops, self.backbone = (
            MaskSamples(source, seed),
            indices,
            crops,
            backbone,
        )
        self.batch_size, self.steps, self.loading, self.seed = batch_size, steps, loading, seed

    def setup(self, stage: str | None = None) -> None:
        trainer = self.trainer
        check_batch_size(
            self.batch_size, trainer.accumulate_grad_batches * trainer.world_size if trainer else 1
        )

    def train_order(self) -> StepBatchSampler:
        trainer = self.trainer
        division = (trainer.accumulate_grad_batches, *device_and_count(self)) if trainer else ()
        settings = (self.indices, self.batch_size, self.steps, self.seed, self.position)
        return StepBatchSampler(*settings, *division)

    def train_dataloader(self) -> DataLoader[Any]:
        return mask_loader(self.samples, self.train_order(), self.loading)

    def val_dataloader(self) -> list[Any]:
        """Return no batches: the validation images are for the trained network only."""
        return []

    def on_after_batch_transfer(self, batch: list[MaskSample], dataloader_idx: int) -> MaskCrops:
        return self.crops.batch(batch, self.backbone.normalize)


class WholeImages(L.LightningDataModule):
    """Validation images with masks. Each is in one batch of one device.

    Args:
        source: of images and masks.
        indices: of the validation images.
        loading: number of workers and time limit.
    """

    def __init__(self, source: MaskSource, indices: Sequence[int], loading: Loading):
        super().__init__()
        self.samples, self.indices, self.loading = MaskSamples(source, 0), indices, loading

    def val_dataloader(self) -> DataLoader[Any]:
        batches = even_batches([(0, index) for index in self.indices], 1, *device_and_count(self))
        return mask_loader(self.samples, batches, self.loading)


def check_batch_size(batch_size: int, parts: int) -> None:
    """Raise ConfigError unless a batch divides into parts of two or more images."""
    if batch_size % parts or batch_size < 2 * parts:
        rule = f"must be divisible into {parts} batches of two or more (accumulated batches times devices)"
        raise ConfigError("batch_size", batch_size, rule, suggest=max(round(batch_size / parts), 2) * parts)
