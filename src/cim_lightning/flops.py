"""Floating-point operations of a training step, counted by torch."""

import copy
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from cim_lightning.cropping.batch import num_images
from cim_lightning.rng import fork_rng

NUM_IMAGES = 8  # suggested batch size of the count; batch normalization needs more than one


class Flops(NamedTuple):
    """Floating-point operations per image. A multiplication and an addition are two."""

    forward: float
    backward: float


def flops_per_image(method: Any, crops: Any) -> Flops:
    """Count the operations of the networks and the loss in a training step. The cropping is not included.

    The count runs on a copy on the "meta" device. This is cheap, does not change weights or running
    statistics, and includes attention, which torch's counter misses in its fused CPU kernels.

    Args:
        method: a Method, after `prepare`.
        crops: a batch of the method's type, of NUM_IMAGES images or of any other number above 1.
    """
    count = num_images(crops)
    tensors = {id(tensor): _to_meta(tensor) for tensor in (*method.parameters(), *method.buffers())}
    with fork_rng(0):
        model = copy.deepcopy(method, tensors).train()
        batch = (crops, torch.zeros(count, dtype=torch.long))
        with FlopCounterMode(display=False) as forward:
            loss = model.compute_batch_losses(tree_map_only(torch.Tensor, _to_meta, batch))["loss"]
        if not loss.requires_grad:
            return Flops(0.0, 0.0)
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    return Flops(forward.get_total_flops() / count, backward.get_total_flops() / count)


def _to_meta(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta")
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty
