"""Keys of images: numbers that identify an image wherever it is in a data set."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt64
from torch.utils.data import Subset

from cim_lightning.image_random import image_seeds, splitmix64

# Uses of `mix`, so that the order of the images, their split, a random part of them and their labels are
# independent.
ORDER, SPLIT, PART, LABELED = 0, 1, 2, 3


def name_key(name: bytes) -> int:
    """Return the key of an image with a name: the first eight bytes of its BLAKE2b hash."""
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "little")


def image_keys(source: Any) -> UInt64[np.ndarray, " n"]:
    """Return the keys of the images of a Source, or of a Subset of one; without keys, their numbers."""
    if isinstance(source, Subset):
        return image_keys(source.dataset)[np.asarray(source.indices, np.int64)]
    keys = getattr(source, "keys", None)
    return np.arange(len(source), dtype=np.uint64) if keys is None else keys


def distinct(keys: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Return the keys, with other ones for the second and later images of the same key."""
    order = np.argsort(keys, kind="stable")
    is_first = np.ones(len(keys), bool)
    is_first[1:] = keys[order][1:] != keys[order][:-1]
    if is_first.all():
        return keys
    positions = np.arange(len(keys))
    repeats = positions - np.maximum.accumulate(np.where(is_first, positions, 0))
    keys = keys.copy()
    for repeat in range(1, int(repeats.max()) + 1):
        rows = order[repeats == repeat]
        keys[rows] = mix(keys[rows], repeat)
    return keys


def mix(keys: UInt64[np.ndarray, " n"], *numbers: int) -> UInt64[np.ndarray, " n"]:
    """Return a hash of each key with the numbers, uniform over 64 bits."""
    salt = torch.zeros(1, dtype=torch.int64)
    for number in numbers:
        salt = splitmix64(salt ^ image_seeds(number, 1), 0, 1)[:, 0]
    mixed = splitmix64(torch.from_numpy(keys.astype(np.int64)) ^ salt, 0, 1)[:, 0]
    return mixed.numpy().view(np.uint64)


def shuffled(keys: UInt64[np.ndarray, " n"], *numbers: int) -> Int64[np.ndarray, " n"]:
    """Return the indices of the images in random order.

    Whether an image precedes another one depends on the keys of both and on the numbers only.
    """
    return np.argsort(mix(keys, *numbers), kind="stable")


def random_part(source: Any, seed: int, limit: int | None = None) -> Sequence[int]:
    """Return the indices of at most `limit` random images of a Source, in random order.

    If there is a limit, images with a label precede those without one.
    """
    order, labels = shuffled(image_keys(source), PART, seed), getattr(source, "labels", None)
    if limit is not None and labels is not None:
        order = order[np.argsort(np.asarray(labels)[order] < 0, kind="stable")]
    return order[:limit].tolist()


def random_labeled(source: Any, seed: int) -> list[int]:
    """Return the indices of the labeled images of a Source, in random order. Without `labels`, all are."""
    labels = getattr(source, "labels", None)
    return [i for i in random_part(source, seed) if labels is None or labels[i] >= 0]
