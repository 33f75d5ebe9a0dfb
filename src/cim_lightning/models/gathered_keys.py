"""Keys of a contrastive loss, gathered over all devices."""

from typing import Any

import torch
import torch.distributed
from jaxtyping import Float
from torch import Tensor


def gather_keys(keys: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "m d"], int]:
    """Return the keys of all devices, and the index of the first key of this device among them.

    Every device has the same number of keys. Gradients reach the keys of all devices, so that their mean over
    the devices is the gradient of one device with the whole batch.
    """
    if not torch.distributed.is_initialized():
        return keys, 0
    return _gather(keys), torch.distributed.get_rank() * len(keys)


@torch.compiler.disable()
def _gather(keys: Float[Tensor, "n d"]) -> Float[Tensor, "m d"]:
    return _Gather.apply(keys)  # pyright: ignore


class _Gather(torch.autograd.Function):
    """all_gather with a gradient; torch's own is deprecated or private, depending on the version."""

    @staticmethod
    def forward(ctx: Any, keys: Tensor) -> Tensor:
        gathered = [torch.empty_like(keys) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(gathered, keys.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total.chunk(torch.distributed.get_world_size())[torch.distributed.get_rank()]
