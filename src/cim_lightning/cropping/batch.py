"""The batch of a method, and its number of images."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class CropBatch(Protocol):
    """What a cropping returns and a method trains on: a NamedTuple of tensors, with its number of images."""

    @property
    def num_images(self) -> int: ...


def num_images(batch: Any) -> int:
    """Return the number of images of a CropBatch, of (CropBatch, labels), or of a batch of tensors."""
    if isinstance(batch, CropBatch):
        return batch.num_images
    return num_images(batch[0]) if isinstance(batch, tuple | list) else len(batch)
