"""Floating-point operations of a training step, counted by torch."""

import copy
import math
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from cim_lightning.cropping.batch import num_images
from cim_lightning.rng import fork_rng

MIN_IMAGES, MAX_IMAGES = 2, 64  # of the count: batch normalization needs two; more take memory for the crops


class Flops(NamedTuple):
    """Floating-point operations per image. A multiplication and an addition are two."""

    forward: float
    backward: float


def images_to_count(batch_size: int) -> int:
    """Return the batch size of the count.

    The cost per image of a contrastive loss grows with the batch. The count is exact for up to 64 images on
    one device, and too low by a few percent for more.
    """
    return min(max(batch_size, MIN_IMAGES), MAX_IMAGES)


def flops_per_image(method: Any, crops: Any) -> Flops:
    """Count the operations of the networks and the loss in a training step. The cropping is not included.

    The count runs on a copy on the "meta" device. This is cheap, does not change weights or running
    statistics, and includes attention, which torch's counter misses in its fused CPU kernels.

    Args:
        method: a Method, after `prepare`.
        crops: a batch of the method's type, of `images_to_count` images.
    """
    count = num_images(crops)
    tensors = {id(tensor): _to_meta(tensor) for tensor in (*method.parameters(), *method.buffers())}
    with fork_rng(0):
        model = copy.deepcopy(method, tensors).train()
        batch = (crops, torch.zeros(count, dtype=torch.long))
        with FlopCounterMode(display=False) as forward:
            loss = model.compute_batch_losses(tree_map(_to_meta, batch))["loss"]
        if not loss.requires_grad:
            return Flops(0.0, 0.0)
        with FlopCounterMode(display=False, custom_mapping=FORMULAS) as backward:
            loss.backward()
    return Flops(forward.get_total_flops() / count, backward.get_total_flops() / count)


def _convolution_backward(
    gradient: torch.Size, inputs: torch.Size, weight: torch.Size, *args: Any, **kwargs: Any
) -> int:
    """Return the operations of the gradients of a convolution.

    Each gradient needs as many as the forward pass. torch's own formula multiplies those of the weights by
    the number of groups.

    Args:
        gradient, inputs, weight: shapes; the gradient is that of the output.
        args: the further arguments of aten::convolution_backward.
    """
    _, _, _, _, transposed, _, _, (of_inputs, of_weight, _) = args
    places = inputs[2:] if transposed else gradient[2:]
    return 2 * (of_inputs + of_weight) * inputs[0] * math.prod(places) * weight.numel()


FORMULAS = {torch.ops.aten.convolution_backward: _convolution_backward}  # by operation


def _to_meta(value: Any) -> Any:
    """Return a tensor, or what has tensors and a method `to`, without data; other values as they are."""
    if isinstance(value, torch.nn.Parameter):
        return torch.nn.Parameter(torch.empty_like(value, device="meta"), requires_grad=value.requires_grad)
    if isinstance(value, torch.Tensor):
        return torch.empty_like(value, device="meta")
    return value.to("meta") if hasattr(value, "to") else value
