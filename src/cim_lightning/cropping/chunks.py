"""Chunks of images, for computations with large intermediate results on a CPU."""

from collections.abc import Callable

import torch
from torch import Tensor

CHUNK_VALUES = 2**20  # intermediate values of a chunk; more would leave the cache of a CPU core


def map_chunks(
    function: Callable[[slice], Tensor], num_images: int, values: int, device: torch.device
) -> Tensor:
    """Return the results of a function for all images: in chunks on a CPU, at once elsewhere.

    On a CPU, a large intermediate result is new memory from the system, whose first use costs more than the
    computation. A compiled graph has no such results.

    Args:
        function: returns the results for a slice of the images, one row per image.
        num_images: at least 1.
        values: intermediate values per image.
        device: of the results.
    """
    whole = device.type != "cpu" or torch.compiler.is_compiling()
    step = num_images if whole else max(CHUNK_VALUES // values, 1)
    if step >= num_images:
        return function(slice(None))
    return torch.cat([function(slice(first, first + step)) for first in range(0, num_images, step)])
