"""Which image each worker is reading, for errors about reads that do not end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import RawArray
from typing import Any

from torch.utils.data import Subset, get_worker_info

NOTHING = -1


class Reading:
    """The index of the image that each worker is reading, in memory that all processes share.

    Args:
        num_workers: number of workers; 0: this process reads.
    """

    def __init__(self, num_workers: int = 0):
        self._indices = RawArray("q", [NOTHING] * max(num_workers, 1))
        self._processes = RawArray("q", max(num_workers, 1))

    @contextmanager
    def image(self, index: int) -> Iterator[None]:
        """Note an image while the block reads it. The note stays if a signal or time limit ends the block."""
        worker = get_worker_info()
        slot = worker.id if worker is not None else 0
        self._processes[slot], self._indices[slot] = os.getpid(), index
        try:
            yield
        except Exception:  # an image that cannot be decoded
            self._indices[slot] = NOTHING
            raise
        self._indices[slot] = NOTHING

    def indices(self) -> dict[int, int]:
        """Return the images that are being read, by the id of their process."""
        pairs = zip(self._processes, self._indices, strict=True)
        return {process: index for process, index in pairs if index != NOTHING}


def image_name(source: Any, index: int) -> str:
    """Return the path of an image, quoted; its index if the source has no `path(index)`."""
    path, index = image_path(source, index)
    return f"image {index}" if path is None else repr(path)


def image_path(source: Any, index: int) -> tuple[str | None, int]:
    """Return the path of an image, or None, and its index in the source of a subset."""
    while isinstance(source, Subset):
        source, index = source.dataset, int(source.indices[index])
    return source.path(index) if hasattr(source, "path") else None, index
