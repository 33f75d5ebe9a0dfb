"""Constants on a device."""

from collections.abc import Sequence

import torch
from jaxtyping import Float32
from torch import Tensor


def constant(values: Sequence[float], device: torch.device) -> Float32[Tensor, " n"]:
    """Return a tensor of a few numbers, made on the device.

    `torch.tensor` would copy them from the host, and wait until the device has finished all earlier work.
    """
    return torch.stack([torch.full((), value, dtype=torch.float32, device=device) for value in values])
