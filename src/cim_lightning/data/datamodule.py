"""`ImageData`: batches of views of a source's images, cropped on the device."""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from cim_lightning.checks import check_above, check_at_least, check_share
from cim_lightning.cropping.cropper import Cropping
from cim_lightning.data.bad_images import BadImages
from cim_lightning.data.bad_share import check_sample
from cim_lightning.data.batch import Batch, Samples
from cim_lightning.data.cache_policy import AUTO, check_cache, open_caches
from cim_lightning.data.changed_images import REFUSE, check_changes, check_policy, describe_changes, record
from cim_lightning.data.eval_batches import random_batches, validation_batches
from cim_lightning.data.format_check import check_first_images
from cim_lightning.data.image_cache import ImageCache
from cim_lightning.data.image_keys import image_keys, random_labeled
from cim_lightning.data.label_share import hide_labels
from cim_lightning.data.loader import Loading
from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.data.resumable import ResumableData, device_and_count
from cim_lightning.data.sampler import ResumableBatchSampler
from cim_lightning.data.source import Splits
from cim_lightning.data.source_arguments import bind_pixels
from cim_lightning.data.view_dataset import (
    CenterSquare,
    RandomResizedCropFlip,
    View,
    ViewDataset,
    view_loader,
)
from cim_lightning.errors import ConfigError

log = logging.getLogger(__name__)


class ImageData(ResumableData):
    """Training and validation batches of (crops, labels).

    Workers decode each image and crop one view. The cropping runs on the device, after the transfer.
    A view and its crops are a function of (seed, epoch, key of the image), see Source, and do not depend on
    the batch. Training resumes mid-epoch with the remaining samples.

    Args:
        source: returns the training and validation images, called with `source_kwargs`.
        cropping: returns the method's batch type.
        batch_size: images per device and batch.
        num_workers: decoding processes; 0: decode in the training process.
        timeout: seconds to wait for a batch before the run is saved and stopped; None: no limit.
        changed: "refuse" to resume with other images, or "allow" it: images that are still there keep their
            views and crops, and their relative order.
        max_bad_share: share of images that cannot be decoded, above which the run stops; see BadShare.
        view_size, view_scale, view_ratio, view_flip: see RandomResizedCropFlip.
        seed: of the image order, views and crops.
        label_share: share of the training images whose label is used in training and evaluation, above 0 and
            at most 1, see `choose_labeled`; None: all labels.
        cache: "ram": decode each image once and keep its pixels in memory; "auto": if they take at most a
            quarter of the free memory; "none". Results do not depend on it.
        channels, bits: of all images, see PixelFormat. A source with the parameter `pixels` gets the format.
        source_kwargs: arguments of the source, such as `root`, the folder of its images, or `download`.

    Raises:
        ConfigError: a parameter is out of range; in setup, the source cannot be opened or is too small.
    """

    def __init__(
        self,
        source: Callable[..., Splits],
        cropping: Cropping,
        batch_size: int = 256,
        num_workers: int = 0,
        view_size: int = 224,
        view_scale: Sequence[float] = (0.5, 1.0),
        view_ratio: Sequence[float] = (3 / 4, 4 / 3),
        view_flip: float = 0.5,
        seed: int = 0,
        channels: int = 3,
        bits: int = 8,
        timeout: float | None = 600,
        max_bad_share: float = 0.1,
        changed: str = REFUSE,
        label_share: float | None = None,
        cache: str = AUTO,
        **source_kwargs: Any,
    ):
        super().__init__()
        check_at_least("batch_size", batch_size, 1)
        check_at_least("num_workers", num_workers, 0)
        check_at_least("seed", seed, 0)
        check_above("timeout", timeout, 0, suggest=600)
        check_policy(changed)
        check_cache(cache)
        check_share("label_share", label_share, zero=False)
        self.pixels = PixelFormat(channels, bits)
        self.source = bind_pixels(source, source_kwargs, self.pixels)
        self.source_kwargs, self.cropping = source_kwargs, cropping
        self.batch_size, self.num_workers = batch_size, num_workers
        self.seed, self.label_share, self.cache = seed, label_share, cache
        self.timeout, self.changed, self.bad_images = timeout, changed, BadImages(max_bad_share)
        self.view = RandomResizedCropFlip(view_size, view_scale, view_ratio, view_flip, prefix="view_")
        self.current: Samples | None = None  # of the batch that is being trained or validated

    @property
    def loading(self) -> Loading:
        """How batches are loaded."""
        return Loading(self.num_workers, self.timeout, self.bad_images)

    @functools.cached_property
    def splits(self) -> Splits:
        """Training and validation images, opened on first use. Assign it to share images between modules."""
        splits = self.source(**self.source_kwargs)
        check_first_images(splits.train, self.pixels, self.timeout)
        for source in splits[:2]:
            check_sample(source, self.bad_images.max_share, self.timeout)
        return splits

    def images(self, split: str) -> Any:
        """Return the images of a split. The hidden labels of training images are NO_LABEL."""
        images = getattr(self.splits, split)
        return hide_labels(images, self.label_share, self.seed) if split == "train" else images

    @functools.cached_property
    def caches(self) -> dict[str, ImageCache]:
        """Decoded images by split, see `open_caches`."""
        processes = self.trainer.num_devices if self.trainer else 1
        return open_caches(self.cache, self.images, self.pixels, processes, self.timeout)

    def setup(self, stage: str | None = None) -> None:
        images, order = len(self.images("train")), self.train_order()
        if not len(order):
            batches = order.world_size * order.accumulate  # per optimizer step
            rule = f"{batches} batch(es) of this size need more than the training set of {images} images"
            raise ConfigError("batch_size", self.batch_size, rule, suggest=max(images // batches, 1))
        self.dummy_batch(1)  # raises an error early if the cropping does not support this view size

    def dummy_batch(self, num_images: int) -> Any:
        """Return the crops of black views."""
        shape = (num_images, self.pixels.channels, self.view.size, self.view.size)
        return self.cropping(torch.zeros(shape, dtype=self.pixels.torch_dtype), self.seed)

    @functools.cached_property
    def image_record(self) -> dict[str, dict[str, Any]]:
        """What a checkpoint stores of the images; see `record`."""
        return record(self.splits)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | self.image_record

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for change in self.describe_changes(state_dict):
            log.info("resuming with %s", change)

    def describe_changes(self, state_dict: dict[str, Any]) -> list[str]:
        """Return what changed in the images since a state, in a phrase per split."""
        return describe_changes(state_dict, self.image_record)

    def check_state(self, state_dict: dict[str, Any]) -> None:
        super().check_state(state_dict)
        check_changes(self.describe_changes(state_dict), self.changed, self.source_kwargs)

    def train_order(self) -> ResumableBatchSampler:
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        settings = (image_keys(self.splits.train), self.batch_size, self.seed, self.position)
        return ResumableBatchSampler(*settings, *device_and_count(self), accumulate=accumulate)

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader("train", self.view, self.train_order())

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the same views and crops of a device's images in every call; without images, no loader."""
        if not len(self.splits.val):
            return []
        batches = validation_batches(self.splits.val, self.seed, self.batch_size, *device_and_count(self))
        return self._loader("val", self.view, batches, evaluation=True)

    def eval_dataloader(
        self,
        split: str,
        limit: int | None,
        view: View | None = None,
        rank: int = 0,
        world_size: int = 1,
        epoch: int = 0,
    ) -> DataLoader[Any]:
        """Return batches of at most `limit` random images of a split, the same in every call.

        Args:
            view: transforms an image; None: the centered square of the training view's size.
            rank, world_size: a process gets the batches rank, rank + world_size, ... of all batches.
            epoch: on which a random view, such as that of training, depends.
        """
        batches = random_batches(self.images(split), self.seed, self.batch_size, limit, epoch)
        view = view or CenterSquare(self.view.size)
        return self._loader(split, view, batches[rank::world_size], evaluation=True)

    def labeled_indices(self, limit: int | None) -> list[int]:
        """Return the indices of at most `limit` random labeled training images, in random order."""
        return random_labeled(self.images("train"), self.seed)[:limit]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Any:
        self.current = batch.samples
        return self.cropping(batch.views, batch.seeds), batch.labels

    def _loader(self, split: str, view: View, batches: Any, evaluation: bool = False) -> DataLoader[Any]:
        pin_memory = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        dataset = ViewDataset(self.images(split), view, self.seed, view is self.view, evaluation)
        dataset.cache = None if dataset.samples_pairs else self.caches.get(split)
        return view_loader(dataset, batches, self.loading, pin_memory)
