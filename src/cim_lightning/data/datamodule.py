"""`ImageData`: batches of views of a source's images, cropped on the device."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from cim_lightning.bounds import at_least, did_you_mean
from cim_lightning.data.sampler import ResumableBatchSampler
from cim_lightning.data.sources import Source, Splits
from cim_lightning.data.views import Batch, CenterCrop, RandomResizedCropFlip, View, ViewDataset, collate
from cim_lightning.data.workers import ignore_signals
from cim_lightning.errors import ConfigError


class ImageData(L.LightningDataModule):
    """Training and validation batches of (crops, labels).

    Workers decode each image and take one uint8 view; the cropping runs on the device, after the transfer.
    A view is a function of (seed, epoch, index). A batch's crops are drawn with the seed of its first view,
    so they also depend on how images are batched. Training resumes mid-epoch with the remaining samples.

    Args:
        source: returns the training and validation images, called with `source_kwargs`.
        cropping: maps (uint8 views "b c h w", seed) to the method's batch type.
        batch_size: images per device and batch.
        num_workers: decoding processes; 0: decode in the training process.
        view_size, view_scale, view_ratio, view_flip: see RandomResizedCropFlip.
        seed: of order, views and crops.
        source_kwargs: arguments of the source, such as `root`, the folder of its images, or `download`.

    Raises:
        ConfigError: a parameter is out of range; in setup, the source cannot be opened, or its training set
            is smaller than a batch.
    """

    def __init__(
        self,
        source: Callable[..., Splits],
        cropping: Callable[..., Any],
        batch_size: int,
        num_workers: int,
        view_size: int,
        view_scale: Sequence[float],
        view_ratio: Sequence[float],
        view_flip: float,
        seed: int,
        **source_kwargs: Any,
    ):
        super().__init__()
        at_least("batch_size", batch_size, 1)
        at_least("num_workers", num_workers, 0)
        parameters = inspect.signature(source).parameters
        for name in source_kwargs.keys() - parameters.keys():
            hint = did_you_mean(name, [*parameters, "batch_size", "num_workers", "view_size"])
            raise ConfigError(name, source_kwargs[name], "this data set has no such setting", hint=hint)
        for name, parameter in parameters.items():
            if name not in source_kwargs and parameter.default is inspect.Parameter.empty:
                raise ConfigError(f"{name}: this data set cannot do without it; give {name}=...")
        self.source, self.source_kwargs, self.cropping = source, source_kwargs, cropping
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.view = RandomResizedCropFlip(view_size, view_scale, view_ratio, view_flip, prefix="view_")
        self._batches_before = 0  # trained on before this process resumed

    @functools.cached_property
    def splits(self) -> Splits:
        """Training and validation images, opened on first use; assign to share them between modules."""
        return self.source(**self.source_kwargs)

    def setup(self, stage: str | None = None) -> None:
        images, devices = len(self.splits.train), self._world_size
        if images < self.batch_size * devices:
            rule = f"a batch for each of {devices} device(s) exceeds the training set of {images} images"
            raise ConfigError("batch_size", self.batch_size, rule, suggest=max(images // devices, 1))
        self.dummy_batch(1)  # fails now, not at the first batch, if the cropping refuses this view size

    def dummy_batch(self, num_images: int) -> Any:
        """Return the crops of black views."""
        views = torch.zeros(num_images, 3, self.view.size, self.view.size, dtype=torch.uint8)
        return self.cropping(views, self.seed)

    def train_dataloader(self) -> DataLoader[Any]:
        source, rank = self.splits.train, self.trainer.global_rank if self.trainer else 0
        devices = {"rank": rank, "world_size": self._world_size}
        order = ResumableBatchSampler(len(source), self.batch_size, self.seed, self._batches_done, **devices)
        return self._loader(source, self.view, batch_sampler=order)

    def val_dataloader(self) -> DataLoader[Any]:
        """Same views and crops of the validation images every time, in a fixed random order.

        Folders are sorted by class; unshuffled, the first batches would have a single class.
        """
        return self._fixed_loader("val", self.view, None)

    def center_crop_dataloader(self, split: str, limit: int | None) -> DataLoader[Any]:
        """Center crops of a split's images, or of `limit` random ones; the same in every call."""
        return self._fixed_loader(split, CenterCrop(self.view.size), limit)

    def random_crop_dataloader(self, split: str, limit: int | None, epoch: int) -> DataLoader[Any]:
        """One random view of each image of `center_crop_dataloader`; another view for another epoch."""
        return self._fixed_loader(split, self.view, limit, epoch)

    def labeled_indices(self, limit: int | None) -> list[int]:
        """Return the indices of all labeled training images, or of `limit` random ones, in random order.

        If the source has no `labels` array, all its images count as labeled.
        """
        source: Any = self.splits.train
        labels = getattr(source, "labels", None)
        shuffled = self._shuffled_indices(len(source))
        return [i for i in shuffled if labels is None or labels[i] >= 0][:limit]

    def train_subset_dataloader(
        self, indices: Sequence[int], view: View, batch_size: int, aug_repeats: int, start_batch: int
    ) -> DataLoader[Any]:
        """Endless batches of views of some training images, for supervised training on one device.

        Args:
            indices: of the training images.
            view: makes a view of an image, with a random generator.
            batch_size, aug_repeats: see ResumableBatchSampler.
            start_batch: number of batches to skip, as training has seen them already.
        """
        images, position = Subset[Any](self.splits.train, indices), lambda: start_batch  # pyright: ignore
        order = ResumableBatchSampler(len(images), batch_size, self.seed, position, aug_repeats=aug_repeats)
        return self._loader(images, view, batch_sampler=order)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Any:
        return self.cropping(batch.views, batch.seed), batch.labels

    def state_dict(self) -> dict[str, int]:
        return {"batches": self._batches_done()}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._batches_before = state_dict["batches"]

    def _shuffled_indices(self, count: int) -> list[int]:
        return np.random.default_rng(self.seed).permutation(count).tolist()

    def _fixed_loader(self, split: str, view: View, limit: int | None, epoch: int = 0) -> DataLoader[Any]:
        source = getattr(self.splits, split)
        keys = [(epoch, index) for index in self._shuffled_indices(len(source))[:limit]]
        return self._loader(source, view, batch_size=self.batch_size, sampler=keys)

    def _loader(self, source: Source | Dataset[Any], view: View, **sampling: Any) -> DataLoader[Any]:
        return DataLoader(
            ViewDataset(source, view, self.seed),
            num_workers=self.num_workers,
            collate_fn=collate,
            worker_init_fn=ignore_signals,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            **sampling,
        )

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def _batches_done(self) -> int:
        """Batches trained on. Lightning restores its own count only after the workers have started."""
        if self.trainer is None:
            return self._batches_before
        done = self.trainer.fit_loop.epoch_loop.batch_progress.total.processed  # pyright: ignore
        return max(done, self._batches_before)
