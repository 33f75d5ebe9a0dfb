"""Keys of a contrastive loss, gathered over all devices."""

import torch
import torch.distributed
from jaxtyping import Float
from torch import Tensor


def gather_keys(keys: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "m d"], int]:
    """Return the keys of all devices, and the index of the first key of this device among them.

    Gradients reach the keys of this device only. Every device has the same number of keys.
    """
    if not torch.distributed.is_initialized():
        return keys, 0
    rank = torch.distributed.get_rank()
    gathered = [torch.empty_like(keys) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(gathered, keys.detach().contiguous())
    gathered[rank] = keys
    return torch.cat(gathered), rank * len(keys)
