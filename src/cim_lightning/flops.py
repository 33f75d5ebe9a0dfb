"""What a training step costs in arithmetic, counted by torch as it runs."""

import copy
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from cim_lightning.rng import fork_rng

IMAGES = 8  # of which the count is taken; batch normalization wants more than one


class Flops(NamedTuple):
    """Floating-point operations an image; a multiply and an add are two."""

    forward: float
    backward: float


def flops_per_image(method: Any, data: Any) -> Flops:
    """Counts the operations of one training step of a method, networks and loss; cropping is not among them.

    The count runs on a copy without storage ("meta"), so it costs next to nothing, moves no weight and no
    running statistic, and attention is counted in full: fused CPU kernels are unknown to torch's counter.

    Args:
        method: see Method, after its setup.
        data: an ImageData.
    """
    shapes = {id(tensor): _shape(tensor) for tensor in (*method.parameters(), *method.buffers())}
    with fork_rng(0):
        model = copy.deepcopy(method, shapes).train()
        labels = torch.zeros(IMAGES, dtype=torch.long)
        batch = tree_map(
            lambda part: part.to("meta") if isinstance(part, torch.Tensor) else part,
            (data.dummy_batch(IMAGES), labels),
        )
        with FlopCounterMode(display=False) as forward:
            loss = model.compute_batch_losses(batch)["loss"]
        if not loss.requires_grad:
            return Flops(0.0, 0.0)
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    return Flops(forward.get_total_flops() / IMAGES, backward.get_total_flops() / IMAGES)


def _shape(tensor: torch.Tensor) -> torch.Tensor:
    """The same without storage."""
    empty = torch.empty_like(tensor, device="meta")
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty
