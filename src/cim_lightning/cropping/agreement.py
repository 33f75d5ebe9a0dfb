"""How well predicted correlation maps agree with the true ones."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@torch.no_grad()
def agreement(logits: Float[Tensor, "b k s s"], maps: Bool[Tensor, "b k s s"]) -> dict[str, Tensor]:
    """Mean over exemplars of IoU at probability 0.5, and of whether the highest logit lies in the map."""
    predicted, true = (logits > 0).flatten(2), maps.flatten(2)
    both, either = (predicted & true).sum(dim=-1), (predicted | true).sum(dim=-1)
    hit = true.gather(-1, logits.flatten(2).argmax(dim=-1, keepdim=True))
    return {"iou": (both / either.clamp(min=1)).mean(), "pointing": hit.float().mean()}
