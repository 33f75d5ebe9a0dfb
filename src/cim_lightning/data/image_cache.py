"""Decoded images in memory that the workers of all loaders share."""

import math
import mmap
import multiprocessing
import os
import tempfile
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
from jaxtyping import Shaped

from cim_lightning.data.pixel_format import Pixels

ROW = 4  # integers per image: place (0: none; negative: a process is writing it), height, width, label


class SharedMemory:
    """Memory that a process and its workers share. Bytes that are never written take no memory.

    Unlike /dev/shm, which torch uses, its size has no limit of its own.

    Args:
        size: in bytes.
        descriptor: of the file behind the memory; None: a new one, which is deleted with its last user.
    """

    def __init__(self, size: int, descriptor: int | None = None):
        if descriptor is None:
            descriptor = _unnamed_file()
            os.ftruncate(descriptor, size)
        self.size, self._descriptor = size, descriptor
        self.bytes = mmap.mmap(descriptor, size)

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach, (self.size, DupFd(self._descriptor))

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("images")
    with tempfile.TemporaryFile() as file:  # macOS
        return os.dup(file.fileno())


def _attach(size: int, descriptor: Any) -> SharedMemory:
    return SharedMemory(size, descriptor.detach())


class ImageCache:
    """The decoded images of a split, by index. The first process that decodes an image writes it.

    An image that does not fit into the memory that is left is decoded each time, and so is an image that
    cannot be decoded.

    Args:
        count: images of the split.
        capacity: bytes for their pixels.
        channels, dtype: of all images.
    """

    def __init__(self, count: int, capacity: int, channels: int, dtype: Any):
        self.count, self.capacity, self.channels, self.dtype = count, capacity, channels, np.dtype(dtype)
        self._first = 8 * (1 + ROW * count)  # byte of the pixels
        self._memory = SharedMemory(self._first + capacity)
        self._lock = multiprocessing.Lock()
        self._views()

    def get(self, index: int) -> tuple[Shaped[np.ndarray, "h w c"], int] | None:
        """Return an image, which is read-only, and its label; None: it is not in the cache."""
        place, height, width, label = self._rows[index].tolist()
        if place <= 0:
            return None
        shape = (height, width, self.channels)
        pixels = np.frombuffer(self._memory.bytes, self.dtype, math.prod(shape), place).reshape(shape)
        pixels.flags.writeable = False
        return pixels, label

    def put(self, index: int, image: Pixels, label: int) -> None:
        """Add an image, if there is memory left for it."""
        pixels = np.asarray(image)
        kind = pixels.dtype, *pixels.shape[2:]
        assert kind == (self.dtype, self.channels), kind  # others would be read with the wrong shape
        with self._lock:
            place = self._first + int(self._used[0])
            is_needed = not self._rows[index, 0] and place + pixels.nbytes <= self._memory.size
            if is_needed:
                self._used[0] += -(-pixels.nbytes // 8) * 8
                self._rows[index] = (-place, *pixels.shape[:2], label)
        if not is_needed:
            return
        target = np.frombuffer(self._memory.bytes, self.dtype, pixels.size, place)
        target.reshape(pixels.shape)[:] = pixels
        with self._lock:  # others see the place after the pixels
            self._rows[index, 0] = place

    def __len__(self) -> int:
        """Return the number of images in the cache."""
        return int(np.count_nonzero(self._rows[:, 0] > 0))

    def _views(self) -> None:
        table = np.frombuffer(self._memory.bytes, np.int64, 1 + ROW * self.count)
        self._used, self._rows = table[:1], table[1:].reshape(self.count, ROW)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_used", "_rows")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._views()
