"""`ImageData`: batches of a source's images, cropped on the device that they were moved to."""

import atexit
import difflib
import functools
import inspect
import itertools
import multiprocessing
import signal
from collections.abc import Callable, Sequence, Sized
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from cim_lightning.data.sampler import ResumableBatchSampler
from cim_lightning.data.sources import Some, Splits
from cim_lightning.data.views import Batch, CenterCrop, RandomResizedCropFlip, View, Views, collate
from cim_lightning.errors import ConfigError


class ImageData(L.LightningDataModule):
    """Training and validation batches of (crops, labels).

    Workers decode and take one uint8 view an image; the cropping runs after the transfer, on the device.
    What is random is a function of (seed, epoch, index), and training goes on after an interruption with
    the samples that were still to come.

    Args:
        source: makes the training and validation images, called with `source_kwargs`.
        cropping: maps (uint8 views "b c h w", seed) to what the method reads.
        batch_size: images in one device's batch.
        num_workers: processes that decode; 0 decodes in the training process.
        view_size, view_scale, view_ratio, view_flip: see RandomResizedCropFlip.
        seed: of order, views and crops.
        source_kwargs: what the source asks for, such as `root`, the folder of its images, or `download`.

    Raises:
        ConfigError: a setting is outside its limits; on setup, the source refuses, or its training set is
            smaller than a batch.
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
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            if value < least:
                raise ConfigError(f"data.{name}={value}: at least {least}; try {least}")
        signature = inspect.signature(source).parameters
        asked = list(signature)
        for name in source_kwargs.keys() - set(asked):
            known = [*asked, "batch_size", "num_workers", "view_size"]
            near = difflib.get_close_matches(name, known, 1, cutoff=0)[0]
            raise ConfigError(
                f"data.{name}={source_kwargs[name]}: this data set has no such setting; try data.{near}"
            )
        for name in asked:
            if name not in source_kwargs and signature[name].default is inspect.Parameter.empty:
                raise ConfigError(f"data.{name}: this data set cannot do without it; give data.{name}=...")
        self.source, self.source_kwargs, self.cropping = source, source_kwargs, cropping
        self.batch_size, self.num_workers = batch_size, num_workers
        self.view = RandomResizedCropFlip(view_size, view_scale, view_ratio, view_flip)
        self.seed = seed
        self._batches_before = 0  # the interruption that this process goes on from

    @functools.cached_property
    def splits(self) -> Splits:
        """Training and validation images; opened on first use, unless they were given."""
        return self.source(**self.source_kwargs)

    def setup(self, stage: str | None = None) -> None:
        images = len(self.splits.train)
        whole = self.batch_size * self._world_size
        if images < whole:
            raise ConfigError(
                f"data.batch_size={self.batch_size}: {self._world_size} device(s) of it exceed the training "
                f"set of {images} images; try {max(images // self._world_size, 1)}"
            )
        self.dummy_batch(1)  # a cropping that refuses views of this size does so now, not at the first batch

    def dummy_batch(self, images: int) -> Any:
        """Crops of black views, as batches of so many images have them."""
        views = torch.zeros(images, 3, self.view.size, self.view.size, dtype=torch.uint8)
        return self.cropping(views, self.seed)

    def train_dataloader(self) -> DataLoader[Any]:
        views = Views(self.splits.train, self.view, self.seed)
        trainer = self.trainer
        rank = trainer.global_rank if trainer else 0
        order = ResumableBatchSampler(
            len(views), self.batch_size, self.seed, self._batches_done, rank, self._world_size, aug_repeats=1
        )
        return DataLoader(views, batch_sampler=order, **self._loading)

    def val_dataloader(self) -> DataLoader[Any]:
        """The same views and crops of the validation images every time, in an order that mixes classes.

        Folders come sorted by class, so without it the first few batches would show one class alone.
        """
        views = Views(self.splits.val, self.view, self.seed)
        return DataLoader(views, self.batch_size, sampler=self._drawn(views, len(views)), **self._loading)

    def center_crop_dataloader(self, split: str, limit: int | None) -> DataLoader[Any]:
        """Whole views of all images of a split, or of `limit` random ones, always the same."""
        views = Views(getattr(self.splits, split), CenterCrop(self.view.size), self.seed)
        return DataLoader(views, self.batch_size, sampler=self._drawn(views, limit), **self._loading)

    def random_crop_dataloader(self, split: str, limit: int | None, epoch: int) -> DataLoader[Any]:
        """One random view each of the same images; another one in another epoch."""
        views = Views(getattr(self.splits, split), self.view, self.seed)
        keys = [(epoch, index) for _, index in self._drawn(views, limit)]
        return DataLoader(views, self.batch_size, sampler=keys, **self._loading)

    def labeled_indices(self, limit: int | None) -> list[int]:
        """Numbers of the training images that have a label, or of `limit` random ones.

        A source that does not say so by its `labels` has one for each.
        """
        source: Any = self.splits.train
        labels = getattr(source, "labels", None)
        known = (i for _, i in self._drawn(source, None) if labels is None or labels[i] >= 0)
        return list(itertools.islice(known, limit))

    def training_dataloader(
        self, images: Sequence[int], view: View, batch_size: int, aug_repeats: int, done: int
    ) -> DataLoader[Any]:
        """Views of some training images, epoch after epoch without end.

        Args:
            images: their numbers.
            view: makes a view of an image with a random generator.
            batch_size, aug_repeats: see ResumableBatchSampler.
            done: batches to pass over, which were seen before.
        """
        source = Some(self.splits.train, images)
        order = ResumableBatchSampler(len(images), batch_size, self.seed, lambda: done, 0, 1, aug_repeats)
        return DataLoader(Views(source, view, self.seed), batch_sampler=order, **self._loading)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Any:
        return self.cropping(batch.views, batch.seed), batch.labels

    def state_dict(self) -> dict[str, int]:
        return {"batches": self._batches_done()}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._batches_before = state_dict["batches"]

    def _drawn(self, views: Sized, limit: int | None) -> list[tuple[int, int]]:
        order = np.random.default_rng(self.seed).permutation(len(views))
        return [(0, int(index)) for index in order[:limit]]

    @property
    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "collate_fn": collate,
            "worker_init_fn": _undisturbed,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
        }

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def _batches_done(self) -> int:
        """Lightning counts the batches trained on, but restores its count only after workers have begun."""
        if self.trainer is None:
            return self._batches_before
        done = self.trainer.fit_loop.epoch_loop.batch_progress.total.processed  # pyright: ignore
        return max(done, self._batches_before)


def _undisturbed(worker: int) -> None:
    """Ctrl-C, `timeout` and schedulers signal workers too, whose death would cut the step under way short."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def _end_undisturbed() -> None:
    """At its end, Python sends those children SIGTERM that an error has left behind, and waits for them."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes their end for a failure
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()
