"""The best answer that never colors at the image: what any skill at the pretext task is measured against."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from cim_lightning.cropping.exemplars import ExemplarCropper

BOXES, CHUNK = 4096, 256
FINEST = 80  # pixels a side: its figures are within 0.001 of those at 160, at a quarter of the time
SEED = 0  # one fixed draw, so that two runs with the same cropping share their yardstick


@dataclass(frozen=True)
class MeanMapBaseline:
    """How well the mean correlation map does as everybody's prediction, under one cropping.

    loss: cross-entropy a pixel, in nats: the entropy of the mean map. iou: at threshold 0.5. best_iou: at the
    threshold that serves it best. pointing: how often its brightest pixel lies in a correlation map.
    """

    loss: float
    iou: float
    best_iou: float
    pointing: float

    def skill(self, loss: torch.Tensor) -> torch.Tensor:
        """1 - loss / constant loss: 0 knows only how boxes are distributed, 1 is perfect."""
        return 1 - loss / self.loss


def estimate_mean_map_baseline(cropping: ExemplarCropper) -> MeanMapBaseline:
    """Samples boxes of a square view and measures the mean of their correlation maps."""
    side = min(cropping.context_size, FINEST)
    boxes = cropping.boxes.sample(BOXES // CHUNK, CHUNK, (side, side), torch.Generator().manual_seed(SEED))
    chunks = [boxes[i : i + 1].cover(side, side).flatten(0, 1).flatten(1) for i in range(BOXES // CHUNK)]
    mean = torch.stack([maps.float().mean(dim=0) for maps in chunks]).mean(dim=0)
    thresholds = torch.arange(0.05, 1, 0.05)
    predicted = (mean > thresholds[:, None]).float()  # one row a threshold
    iou = torch.stack([_iou(predicted, maps.float()) for maps in chunks]).mean(dim=0)
    return MeanMapBaseline(
        loss=F.binary_cross_entropy(mean, mean).item(),
        iou=iou[9].item(),
        best_iou=iou.max().item(),
        pointing=mean.max().item(),
    )


def _iou(predicted: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    both = predicted @ maps.T
    either = predicted.sum(dim=1, keepdim=True) + maps.sum(dim=1) - both
    return (both / either.clamp(min=1)).mean(dim=1)


@torch.no_grad()
def iou_and_pointing(logits: Float[Tensor, "b k s s"], maps: Bool[Tensor, "b k s s"]) -> dict[str, Tensor]:
    """Mean over exemplars of IoU at probability 0.5, and of whether the highest logit lies in the map."""
    predicted, true = (logits > 0).flatten(2), maps.flatten(2)
    both, either = (predicted & true).sum(dim=-1), (predicted | true).sum(dim=-1)
    hit = true.gather(-1, logits.flatten(2).argmax(dim=-1, keepdim=True))
    return {"iou": (both / either.clamp(min=1)).mean(), "pointing": hit.float().mean()}
