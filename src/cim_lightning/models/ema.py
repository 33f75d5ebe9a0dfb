"""Exponential moving average of tensors, which a skipped optimizer step does not change."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.sgd import sgd


@torch.no_grad()
def update_average(
    averages: list[Tensor], values: list[Tensor], weight: float, applied: Float[Tensor, ""] | None
) -> None:
    """Move averages towards values: average + weight (value - average), in place.

    On a GPU, this neither waits for `applied` nor starts one kernel per tensor, as a lerp with a weight on
    the device does.

    Args:
        averages, values: pairs of tensors on the same device.
        weight: 0..1.
        applied: 0: nothing must change. None: 1.
    """
    if applied is None or applied.device.type != "cuda" or weight >= 0.5:  # lerp is exact for a weight of 1
        if applied is None or applied.item():
            torch._foreach_lerp_(averages, values, weight)
    else:
        lerp_unless_skipped(averages, values, weight, applied)


def lerp_unless_skipped(
    averages: list[Tensor], values: list[Tensor], weight: float, applied: Float[Tensor, ""]
) -> None:
    """Do the same by torch's fused SGD, whose kernel reads on the device whether to skip the step.

    With a gradient of -value, a weight decay of 1 and a learning rate of `weight`, its step is that of the
    average: average - weight (average - value). On a CPU, it equals lerp to the bit for a weight below 0.5.
    """
    sgd(
        averages,
        values,
        [None] * len(averages),
        fused=True,
        found_inf=1 - applied,
        lr=weight,
        weight_decay=1.0,
        maximize=True,
        momentum=0.0,
        dampening=0.0,
        nesterov=False,
    )
