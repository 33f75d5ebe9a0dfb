"""Data modules of segmentation: random crops for training, whole images for validation."""

from collections.abc import Sequence
from typing import Any

import lightning as L
from torch.utils.data import DataLoader

from cim_lightning.data.resumable import ResumableData
from cim_lightning.data.sampler import even_batches
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
        num_workers: decoding processes; 0: decode in this process.
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
        num_workers: int,
        seed: int,
    ):
        super().__init__()
        self.samples, self.indices, self.crops, self.backbone = (
            MaskSamples(source, seed),
            indices,
            crops,
            backbone,
        )
        self.batch_size, self.steps, self.num_workers, self.seed = batch_size, steps, num_workers, seed

    def setup(self, stage: str | None = None) -> None:
        trainer = self.trainer
        batches = trainer.accumulate_grad_batches * trainer.world_size if trainer else 1
        if self.batch_size % batches or self.batch_size < 2 * batches:
            rule = (
                f"must be divisible into {batches} batches of two or more (accumulated batches times devices)"
            )
            suggest = max(round(self.batch_size / batches), 2) * batches
            raise ConfigError("batch_size", self.batch_size, rule, suggest=suggest)

    def train_dataloader(self) -> DataLoader[Any]:
        trainer = self.trainer
        division = (trainer.accumulate_grad_batches, *_device(self)) if trainer else ()
        settings = (self.indices, self.batch_size, self.steps, self.seed, self.position)
        return mask_loader(self.samples, StepBatchSampler(*settings, *division), self.num_workers)

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
        num_workers: decoding processes; 0: decode in this process.
    """

    def __init__(self, source: MaskSource, indices: Sequence[int], num_workers: int):
        super().__init__()
        self.samples, self.indices, self.num_workers = MaskSamples(source, 0), indices, num_workers

    def val_dataloader(self) -> DataLoader[Any]:
        batches = even_batches([(0, index) for index in self.indices], 1, *_device(self))
        return mask_loader(self.samples, batches, self.num_workers)


def _device(data: L.LightningDataModule) -> tuple[int, int]:
    """Return the number of this device, and the number of devices."""
    return (data.trainer.global_rank, data.trainer.world_size) if data.trainer else (0, 1)
