"""The share of images that cannot be decoded, at which a run stops."""

import math
from typing import Any

import numpy as np

from cim_lightning.data.bad_images import BadImages
from cim_lightning.data.batch import Batch, Samples
from cim_lightning.data.loader import read_within
from cim_lightning.data.reading import image_path
from cim_lightning.errors import BadImageError, ConfigError

SIGMAS = 4.0  # of the sampling error, before all images are read
SAMPLE = 16  # images that are read at the start; fewer images stop no run, unless there are no others


class BadShare:
    """Count the images that a loader has read, and stop a run that has too many bad ones.

    An image that cannot be decoded is bad. The share of bad images may exceed `max_share` by the error of
    sampling without replacement, which is zero after all images. Further passes over the images do not count.
    A single bad image, or fewer than SAMPLE images of more, stop a run only if `max_share` is 0.

    Args:
        bad_images: gets each bad image.
        source: of the images.
        num_images: that the loader reads in one pass.
    """

    def __init__(self, bad_images: BadImages, source: Any, num_images: int):
        self.bad_images, self.source, self.num_images = bad_images, source, num_images
        self.read, self.bad = 0, 0

    def record(self, batch: Batch | Samples) -> None:
        """Record the images of a batch; Samples alone mean that an image has no replacement.

        Raises:
            ConfigError: too many images are bad.
        """
        if isinstance(batch, Batch):
            return self.record_samples(batch.samples)
        self.record_samples(batch)
        which = f"{len(dict(batch.skipped)):,} random images cannot be decoded, and no other replaces them"
        raise ConfigError(f"{which}: {self.bad_images.summary()}{self._listed()}")

    def record_samples(self, samples: Samples) -> None:
        """Record the images of a batch."""
        for index, reason in samples.skipped:
            self.bad_images.add(_name(self.source, index), reason)
        skipped = [index for index, _ in samples.skipped]
        self.count(len(samples.indices), int(np.isin(samples.indices, skipped).sum()))

    def count(self, read: int, bad: int) -> None:
        """Count images; see `record`."""
        if self.read >= self.num_images:
            return
        self.read, self.bad = self.read + read, self.bad + bad
        limit = self.bad_images.max_share
        left = max(1 - self.read / self.num_images, 0)
        tolerance = SIGMAS * math.sqrt(limit * (1 - limit) * self.read * left)
        is_enough = (self.bad > 1 and self.read >= min(SAMPLE, self.num_images)) or not limit
        if is_enough and self.bad > limit * self.read + tolerance:
            share = math.ceil(10 * self.bad / self.read + 1e-9) / 10
            which = f"{self.bad:,} of the first {self.read:,} images cannot be decoded"
            rule = f"{which}: {self.bad_images.summary()}{self._listed()}"
            hint = f"replace or remove them{f', or try max_bad_share={share:g}' if share < 1 else ''}"
            raise ConfigError("max_bad_share", limit, rule, hint=hint)

    def _listed(self) -> str:
        return f"; {self.bad_images.file} lists them" if self.bad_images.file else ""


def _name(source: Any, index: int) -> str:
    path, index = image_path(source, index)
    return f"image {index}" if path is None else path


def check_sample(source: Any, max_share: float, timeout: float | None = None) -> None:
    """Read some images at the start, and stop if too many of them cannot be decoded.

    Raises:
        ConfigError: see BadShare.
        LoadingError: an image is not read within the time limit, in seconds.
    """
    images = BadImages(max_share)
    for index in np.unique(np.linspace(0, len(source) - 1, min(SAMPLE, len(source))).round().astype(int)):
        try:
            read_within(source, int(index), timeout)
        except BadImageError as error:
            images.reasons[_name(source, int(index))] = error.reason
    BadShare(images, source, len(source)).count(min(SAMPLE, len(source)), len(images.reasons))
