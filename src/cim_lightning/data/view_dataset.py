"""Views of images in the workers: random crops for training, centered squares for evaluation."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt64
from torch.utils.data import Dataset

from cim_lightning.checks import check_at_least, check_ordered, check_share
from cim_lightning.data.bad_images import BadImages
from cim_lightning.data.bad_share import BadShare
from cim_lightning.data.batch import Batch, Sample, Samples, collate
from cim_lightning.data.image_cache import ImageCache
from cim_lightning.data.image_keys import image_keys
from cim_lightning.data.loader import BatchLoader, Loading, whole_batch
from cim_lightning.data.pixel_format import Pixels
from cim_lightning.data.reading import Reading, image_name
from cim_lightning.data.resampling import Box, crop, flip, image_size, resize, resized_crop
from cim_lightning.data.source import NO_LABEL
from cim_lightning.errors import BadImageError

MAX_TRIES = 10  # samples of area and ratio until a crop fits into the image, as in torchvision
WHOLE_PIXELS = 128  # longer sides are rounded even if the view is larger; shorter crops would move visibly
MAX_BAD_IMAGES = 100  # that are tried for one image
View = Callable[[Pixels, np.random.Generator], Pixels]


@dataclass(eq=False)
class RandomResizedCropFlip:
    """Random-resized crop with a flip, bicubic and antialiased. Large crops have sides of whole pixels."""

    size: int  # side of the view in pixels
    scale: Sequence[float]  # smallest and largest share of the image's area, 0 < low <= high <= 1
    ratio: Sequence[float]  # smallest and largest width / height of the crop
    flip: float  # probability of a horizontal flip
    prefix: InitVar[str] = ""  # of the parameters' names in errors

    def __post_init__(self, prefix: str) -> None:
        check_at_least(f"{prefix}size", self.size, 1)
        check_ordered(f"{prefix}scale", self.scale, high=1, suggest=[0.5, 1.0])
        check_ordered(f"{prefix}ratio", self.ratio, suggest=[0.75, 1.3333])
        check_share(f"{prefix}flip", self.flip)

    def __call__(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        box = self.sample(*image_size(image), rng)
        is_large = min(box[2] - box[0], box[3] - box[1]) > min(self.size, WHOLE_PIXELS)
        view = (resized_crop if is_large else resize)(image, (self.size, self.size), box)
        return flip(view) if rng.random() < self.flip else view

    def sample(self, width: int, height: int, rng: np.random.Generator) -> Box:
        """Sample the left, top, right and bottom of a crop.

        If none of ten samples fits into the image, return the largest centered crop of the closest ratio.
        """
        (low, high), draws = self.scale, rng.random(2 * MAX_TRIES)
        areas = (low + (high - low) * draws[:MAX_TRIES]) * width * height
        low, high = map(math.log, self.ratio)
        ratios = np.exp(low + (high - low) * draws[MAX_TRIES:])
        for area, ratio in zip(areas.tolist(), ratios.tolist(), strict=True):
            w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
            if w <= width and h <= height:
                left, top = (width - w) * rng.random(), (height - h) * rng.random()
                break
        else:
            w, h = min(width, height * self.ratio[1]), min(height, width / self.ratio[0])
            left, top = (width - w) / 2, (height - h) / 2
        return left, top, min(left + w, width), min(top + h, height)


@dataclass(eq=False)
class CenterSquare:
    """The largest centered square of an image, resized, bicubic and antialiased."""

    size: int  # side of the view in pixels

    def __post_init__(self) -> None:
        check_at_least("size", self.size, 1)

    def __call__(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        width, height = image_size(image)
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return resize(image, (self.size, self.size), (left, top, left + side, top + side))


@dataclass(eq=False)
class ResizeCenterCrop:
    """The centered square of an image whose short side is resized first, bicubic and antialiased.

    The usual preprocessing of ImageNet's validation images: resize the short side to 256, crop 224.
    """

    size: int  # side of the view in pixels
    crop_pct: float  # side of the view as a share of the resized short side, above 0 and at most 1

    def __post_init__(self) -> None:
        check_at_least("size", self.size, 1)
        check_share("crop_pct", self.crop_pct, zero=False)

    def __call__(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        short_side, sides = round(self.size / self.crop_pct), image_size(image)
        width, height = (int(short_side * side / min(sides)) for side in sides)
        resized = resize(image, (width, height))
        return crop(resized, round((width - self.size) / 2), round((height - self.size) / 2), self.size)


EvalView = CenterSquare | ResizeCenterCrop


@dataclass(eq=False)
class ViewDataset(Dataset[Sample]):
    """Samples by (epoch, index). Their random numbers depend on the seed, the epoch and the image's key.

    If an image cannot be decoded, a random one replaces it. It has its own label in training, and none in
    evaluation, which counts no image twice.
    """

    source: Any  # a Source, or a Subset of one
    view: View  # transforms an image; its random numbers come from its generator argument only
    seed: int
    paired: bool = False  # if the source has pairs of images, return views "2 c h w" of a pair
    keys: UInt64[np.ndarray, " n"] = field(init=False)
    evaluation: bool = False  # the random numbers differ from those of training with the same keys
    cache: ImageCache | None = None  # of the images that were decoded before
    reading: Reading = field(default_factory=Reading, init=False)  # the loader replaces it

    def __post_init__(self) -> None:
        self.keys = image_keys(self.source)

    @property
    def samples_pairs(self) -> bool:
        """Whether the views are of pairs."""
        return self.paired and getattr(self.source, "max_gap", 0) > 0

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        entropy, stream = (self.seed, epoch, int(self.keys[index])), (1,) if self.evaluation else ()
        rng = np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=stream))
        seed = int(rng.integers(2**62))
        decoded, skipped = self._decode(index, rng)
        if decoded is None:
            return Sample(None, NO_LABEL, 0, epoch, index, skipped)
        image, label = decoded
        if skipped and self.evaluation:
            label = NO_LABEL
        pixels = np.require(self.view(image, rng), requirements="W")  # Pillow's pixels are read-only
        view = torch.from_numpy(pixels).permute(2, 0, 1)
        if self.samples_pairs:
            view = view.unflatten(0, (2, -1))
        return Sample(view, label, seed, epoch, index, skipped)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch | Samples:
        """Return the batch of samples with these keys, or their images if one has no view."""
        return collate((self[key] for key in keys), len(keys))

    def _decode(
        self, index: int, rng: np.random.Generator
    ) -> tuple[tuple[Pixels, int] | None, list[tuple[int, str]]]:
        """Return an image with its label, and the images that it replaces, with the reasons.

        After MAX_BAD_IMAGES, return no image.
        """
        count, skipped, step = len(self.source), [], 0
        for attempt in range(min(MAX_BAD_IMAGES, count)):
            # Neighbors may all be bad, such as the images of a folder.
            while attempt and math.gcd(step, count) != 1:
                step = int(rng.integers(1, max(count, 2)))
            i = (index + attempt * step) % count
            try:
                return self._read(i, rng), skipped
            except BadImageError as error:
                is_named = error.name in ("", image_name(self.source, i))
                skipped.append((i, error.reason if is_named else str(error)))
        return None, skipped

    def _read(self, index: int, rng: np.random.Generator) -> tuple[Pixels, int]:
        if self.cache is not None and (cached := self.cache.get(index)) is not None:
            return cached
        with self.reading.image(index):
            image, label = self.source.sample(index, rng) if self.samples_pairs else self.source[index]
        if self.cache is not None:
            self.cache.put(index, image, label)
        return image, label


def view_loader(
    dataset: ViewDataset, batches: Iterable[Any], loading: Loading, pin_memory: bool
) -> BatchLoader:
    """Return a loader of Batches, by lists of keys (epoch, index)."""
    options = {"persistent_workers": loading.num_workers > 0, "pin_memory": pin_memory}
    num_images = sum(map(len, batches)) if isinstance(batches, list) else len(dataset)
    share = BadShare(loading.bad_images or BadImages(), dataset.source, num_images)
    return BatchLoader(dataset, whole_batch, batches, loading, share.record, **options)
