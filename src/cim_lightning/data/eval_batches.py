"""Batches of images for validation and evaluation, the same in every call."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cim_lightning.data.image_keys import random_part

Keys = list[tuple[int, int]]  # epoch and index of each image of a batch


def random_batches(
    source: Any, seed: int, batch_size: int, limit: int | None = None, epoch: int = 0
) -> list[Keys]:
    """Return batches of at most `limit` random images of a Source. The last batch may be smaller.

    Folders are sorted by class; without shuffling, the first batches would have a single class.
    """
    keys = [(epoch, index) for index in random_part(source, seed, limit)]
    return [keys[i : i + batch_size] for i in range(0, len(keys), batch_size)]


def validation_batches(source: Any, seed: int, batch_size: int, rank: int, world_size: int) -> list[Keys]:
    """Return one device's batches of all images of a Source.

    With fewer than two images per device, all devices have all images: metrics that compare images are logged
    on every device or on none, which their reduction over the devices requires.
    """
    batches = random_batches(source, seed, batch_size)
    if world_size == 1 or len(source) < 2 * world_size:
        return batches
    # Devices have the same number of batches, because DDP communicates in every forward pass.
    return even_batches([key for batch in batches for key in batch], batch_size, rank, world_size)


def even_batches(keys: Sequence[tuple[int, int]], batch_size: int, rank: int, world_size: int) -> list[Keys]:
    """Return the batches of one device. Devices share the keys, and have the same number of batches.

    No key is repeated. A batch is empty only if there are fewer keys than devices.
    """
    rounds = math.ceil(len(keys) / (batch_size * world_size))
    parts = np.array_split(np.arange(len(keys)), max(rounds, 1) * world_size)
    return [[keys[i] for i in part] for part in parts[rank::world_size]]
