"""Prototypes of DINO and iBOT: losses between crops, the running center against collapse, and metrics."""

from collections.abc import Sequence

import torch
import torch.distributed
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cim_lightning.metric_registry import EVERYWHERE, PRETEXT, Metric

PROTOTYPE_METRICS = (
    Metric("target_entropy", "target entropy", PRETEXT, EVERYWHERE),
    Metric("target_perplexity", "target perplexity", PRETEXT, EVERYWHERE, digits=1),
)


def cross_entropy(
    targets: Float[Tensor, "n out"], scores: Float[Tensor, "n out"], temperature: float
) -> Float[Tensor, " n"]:
    """Return the cross-entropy of the target's probabilities and the online scores, per row."""
    return -(targets * F.log_softmax(scores.float() / temperature, dim=-1)).sum(dim=-1)


def cross_crop_loss(
    targets: Float[Tensor, "m out"], online: Sequence[Float[Tensor, "b out"]], temperature: float
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy over all pairs of a global crop of the target and another online crop.

    Args:
        targets: probabilities of the first, then of the second global crop of b images.
        online: scores of the two global crops, then of the local crops.
        temperature: softmax temperature of the online network.
    """
    losses = [
        cross_entropy(target, scores, temperature).mean()
        for i, target in enumerate(targets.chunk(2))
        for j, scores in enumerate(online)
        if i != j
    ]
    return torch.stack(losses).mean()


@torch.no_grad()
def update_center(center: Float[Tensor, "out"], scores: Float[Tensor, "n out"], momentum: float) -> None:
    """Move a running mean of the target's scores, in place, towards their mean over all devices.

    Each device may have another number of scores, also 0. All devices must call this function.
    """
    if not torch.distributed.is_initialized():
        if len(scores):
            center.lerp_(scores.mean(dim=0), 1 - momentum)
        return
    total = torch.cat((scores.sum(dim=0), scores.new_full((1,), len(scores))))
    torch.distributed.all_reduce(total)
    count = total[-1]
    center.lerp_(total[:-1] / count.clamp(min=1), (1 - momentum) * (count > 0))


def prototype_metrics(targets: Float[Tensor, "n out"]) -> dict[str, Tensor]:
    """Return the values of PROTOTYPE_METRICS for the target's probabilities of n images or crops."""
    mean_entropy = torch.special.entr(targets.mean(dim=0)).sum()  # 0: the same prototype for all images
    return {
        "target_entropy": torch.special.entr(targets).sum(dim=-1).mean(),  # 0: one prototype per image
        "target_perplexity": mean_entropy.exp(),
    }
