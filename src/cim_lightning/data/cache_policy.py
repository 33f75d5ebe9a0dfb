"""Which data sets are decoded once into memory: those that fit into the memory that is free."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from cim_lightning.checks import check_one_of
from cim_lightning.data.image_cache import ImageCache
from cim_lightning.data.loader import read_within
from cim_lightning.data.pixel_format import DTYPES, PixelFormat
from cim_lightning.data.segmentation_batches import evenly_spaced
from cim_lightning.errors import BadImageError, ConfigError
from cim_lightning.free_memory import free_memory

log = logging.getLogger(__name__)
NONE, RAM, AUTO = "none", "ram", "auto"
SAMPLE = 16  # images whose size is measured
MARGIN = 1.25  # capacity / estimate; memory that is not written is not used
AUTO_SHARE = 0.25  # of the free memory that `auto` uses


def check_cache(policy: str) -> None:
    """Check the policy: NONE, RAM or AUTO.

    Raises:
        ConfigError: it is another one.
    """
    check_one_of("cache", policy, [NONE, RAM, AUTO])


def open_caches(
    policy: str,
    images: Callable[[str], Any],
    pixels: PixelFormat,
    processes: int = 1,
    timeout: float | None = None,
) -> dict[str, ImageCache]:
    """Return an empty cache for each split; no caches if the images stay in their files.

    Args:
        policy: RAM: always; AUTO: if the images take at most a quarter of the free memory.
        images: returns those of a split.
        pixels: format of the images.
        processes: training processes on this machine, each of which has its own caches.
        timeout: seconds to read an image.

    Raises:
        ConfigError: the policy is RAM, and the images need more memory than is free.
    """
    if policy == NONE:
        return {}
    sources = {split: images(split) for split in ("train", "val")}
    if all(getattr(source, "in_memory", False) for source in sources.values()):
        return {}
    dtype = np.dtype(DTYPES[pixels.bits])
    sizes = {split: _mean_size(source, timeout) * dtype.itemsize for split, source in sources.items()}
    needed = {split: sizes[split] * len(source) for split, source in sources.items()}
    total, free = sum(needed.values()) * processes, free_memory()
    if policy == RAM and free is not None and total > free:
        rule = f"the images take about {_gigabytes(total)} GB, and {_gigabytes(free)} GB of memory are free"
        raise ConfigError("cache", policy, rule, suggest=NONE)
    if policy == AUTO and (free is None or total > AUTO_SHARE * free):
        return {}
    count, of = sum(map(len, sources.values())), f" of {_gigabytes(free)} GB" if free else ""
    line = "cache=%s: %s decoded images stay in memory, about %s GB%s"
    log.info(line, RAM, f"{count:,}", _gigabytes(total), of)
    return {
        split: ImageCache(len(source), int(MARGIN * needed[split]) + 8, pixels.channels, dtype)
        for split, source in sources.items()
    }


def _mean_size(source: Any, timeout: float | None) -> float:
    """Return the mean number of values of an image, over some of the images that can be decoded."""
    sizes = []
    for index in evenly_spaced(len(source), SAMPLE):
        try:
            sizes.append(np.asarray(read_within(source, int(index), timeout)[0]).size)
        except BadImageError:
            continue
    return sum(sizes) / max(len(sizes), 1)


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2g}"
