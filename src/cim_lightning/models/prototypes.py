"""Target probabilities of prototypes: the running center that prevents collapse, and metrics that show it."""

import torch
import torch.distributed
from jaxtyping import Float
from torch import Tensor

from cim_lightning.metric_registry import EVERYWHERE, PRETEXT, Metric

PROTOTYPE_METRICS = (
    Metric("target_entropy", "target entropy", PRETEXT, EVERYWHERE),
    Metric("target_perplexity", "target perplexity", PRETEXT, EVERYWHERE, digits=1),
)


@torch.no_grad()
def update_center(center: Float[Tensor, "out"], scores: Float[Tensor, "n out"], momentum: float) -> None:
    """Move a running mean of the target's scores, in place, towards their mean over all devices."""
    mean = scores.mean(dim=0)
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(mean)
        mean /= torch.distributed.get_world_size()
    center.lerp_(mean, 1 - momentum)


def prototype_metrics(targets: Float[Tensor, "n out"]) -> dict[str, Tensor]:
    """Return the values of PROTOTYPE_METRICS for the target's probabilities of n images or crops."""
    mean_entropy = torch.special.entr(targets.mean(dim=0)).sum()  # 0: the same prototype for all images
    return {
        "target_entropy": torch.special.entr(targets).sum(dim=-1).mean(),  # 0: one prototype per image
        "target_perplexity": mean_entropy.exp(),
    }
