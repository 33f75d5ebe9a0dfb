"""Metrics of the pretext task, and the mean-map baseline that predicts without the image."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from cim_lightning.cropping.exemplars import ExemplarCropper

NUM_BOXES, CHUNK = 4096, 256
MAX_SIZE = 80  # pixels; the values are within 0.001 of those at 160 pixels, at a quarter of the time
SEED = 0  # fixed, so that runs with the same cropping have the same baseline


@dataclass(frozen=True)
class MeanMapBaseline:
    """Scores of the mean correlation map as the prediction for every exemplar.

    loss: cross-entropy per pixel in nats, which is the entropy of the mean map. iou: IoU at threshold 0.5.
    best_iou: IoU at the best threshold. pointing: share of exemplars whose map contains the maximum.
    """

    loss: float
    iou: float
    best_iou: float
    pointing: float

    def skill(self, loss: Tensor) -> Tensor:
        """Return 1 - loss / baseline loss: 0 for the baseline, 1 for a perfect prediction."""
        return 1 - loss / self.loss


def estimate_mean_map_baseline(cropping: ExemplarCropper) -> MeanMapBaseline:
    """Estimate the baseline of a cropping from sampled boxes of a square view."""
    side = min(cropping.context_size, MAX_SIZE)
    shape = (NUM_BOXES // CHUNK, CHUNK, (side, side))
    boxes = cropping.boxes.sample(*shape, torch.Generator().manual_seed(SEED))
    chunks = [boxes[i : i + 1].rasterize(side, side).flatten(0, 1).flatten(1) for i in range(shape[0])]
    mean = torch.stack([maps.float().mean(dim=0) for maps in chunks]).mean(dim=0)
    thresholds = torch.arange(0.05, 1, 0.05)
    predicted = (mean > thresholds[:, None]).float()  # one row per threshold
    iou = torch.stack([_mean_iou(predicted, maps.float()) for maps in chunks]).mean(dim=0)
    return MeanMapBaseline(
        loss=F.binary_cross_entropy(mean, mean).item(),
        iou=iou[9].item(),
        best_iou=iou.max().item(),
        pointing=mean.max().item(),
    )


def _mean_iou(predicted: Float[Tensor, "t n"], maps: Float[Tensor, "m n"]) -> Float[Tensor, " t"]:
    intersection = predicted @ maps.T
    union = predicted.sum(dim=1, keepdim=True) + maps.sum(dim=1) - intersection
    return (intersection / union.clamp(min=1)).mean(dim=1)


@torch.no_grad()
def iou_and_pointing(logits: Float[Tensor, "b k s s"], maps: Bool[Tensor, "b k s s"]) -> dict[str, Tensor]:
    """Return the mean IoU at probability 0.5, and the share of exemplars whose map contains the maximum."""
    predicted, true = (logits > 0).flatten(2), maps.flatten(2)
    intersection, union = (predicted & true).sum(dim=-1), (predicted | true).sum(dim=-1)
    hit = true.gather(-1, logits.flatten(2).argmax(dim=-1, keepdim=True))
    return {"iou": (intersection / union.clamp(min=1)).mean(), "pointing": hit.float().mean()}
