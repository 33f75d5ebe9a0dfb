"""Metrics of the pretext task, and the mean-map baseline, which predicts without the image."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from cim_lightning.cropping.boxes import NUM_DRAWS
from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.metric_registry import BASELINE, EVERYWHERE, PRETEXT, TABLE, Metric

METRICS = (
    Metric("skill", "correlation skill", PRETEXT, EVERYWHERE, True, "skill", baseline=0.0),
    Metric("iou", "IoU", PRETEXT, (TABLE,), True, baseline=f"iou{BASELINE}"),
    Metric("pointing", "pointing accuracy", PRETEXT, (TABLE,), True, baseline=f"pointing{BASELINE}"),
    Metric(f"best_iou{BASELINE}", "IoU of the mean-map baseline at its best threshold"),
)
NUM_CHUNKS, CHUNK_SIZE = 16, 256  # boxes of the estimate, in chunks to limit the memory
MAX_SIZE = 80  # pixels; results are within 0.001 of those at 160 pixels, in a quarter of the time
THRESHOLDS = [percent / 100 for percent in range(5, 100, 5)]  # of the mean map
SEED = 0  # fixed, so that runs with the same cropping have the same baseline


@dataclass(frozen=True)
class MeanMapBaseline:
    """Metrics of the mean correlation map as the prediction for every exemplar."""

    loss: float  # cross-entropy per pixel in nats, which is the entropy of the mean map
    iou: float  # at threshold 0.5
    best_iou: float  # at the threshold that is best for other exemplars
    pointing: float  # share of exemplars with the maximum of the mean map in their box

    def skill(self, loss: Tensor) -> Tensor:
        """Return 1 - loss / baseline loss: 0 for the baseline, 1 for a perfect prediction."""
        return 1 - loss / self.loss


def estimate_mean_map_baseline(cropping: ExemplarCropper) -> MeanMapBaseline:
    """Estimate the baseline of a cropping from sampled boxes of a square view."""
    chunks = _sample_maps(cropping)
    mean = _mean_map(chunks)
    loss = F.binary_cross_entropy(mean, mean).item()
    # Each half is predicted from the other one: the maximum of a mean map is too good on its own boxes.
    first, second = chunks[: NUM_CHUNKS // 2], chunks[NUM_CHUNKS // 2 :]
    iou, best_iou, pointing = ((_predict(first, second) + _predict(second, first)) / 2).tolist()
    return MeanMapBaseline(loss, iou, best_iou, pointing)


def mean_map_logits(cropping: ExemplarCropper) -> Float[Tensor, "s s"]:
    """Return the logits of the mean correlation map, at which a decoder may start (see models/map_prior.py).

    The loss of these logits is that of the mean-map baseline. They are finite where no sampled box is.
    """
    mean = _mean_map(_sample_maps(cropping))
    side = round(len(mean) ** 0.5)
    return torch.logit(mean, eps=0.5 / (NUM_CHUNKS * CHUNK_SIZE)).unflatten(0, (side, side))


def _sample_maps(cropping: ExemplarCropper) -> list[Bool[Tensor, "m n"]]:
    """Return the maps of sampled boxes in a square view, in chunks."""
    side = min(cropping.context_size, MAX_SIZE)
    generator = torch.Generator().manual_seed(SEED)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(NUM_CHUNKS, CHUNK_SIZE, *shape, generator=generator)

    area, ratio, position, angle = uniform(NUM_DRAWS), uniform(NUM_DRAWS), uniform(2), uniform()
    boxes = cropping.boxes.from_uniform(area, ratio, position, angle, (side, side))
    return [boxes[i : i + 1].rasterize(side, side).flatten(0, 1).flatten(1) for i in range(NUM_CHUNKS)]


def _mean_map(chunks: list[Bool[Tensor, "m n"]]) -> Float[Tensor, " n"]:
    return torch.stack([maps.float().mean(dim=0) for maps in chunks]).mean(dim=0)


def _predict(known: list[Bool[Tensor, "m n"]], predicted: list[Bool[Tensor, "m n"]]) -> Float[Tensor, "3"]:
    """Return IoU, best IoU and pointing accuracy on the predicted maps of the mean of the known maps."""
    mean = _mean_map(known)
    best = _ious(mean, known).argmax()
    ious = _ious(mean, predicted)
    return torch.stack((ious[THRESHOLDS.index(0.5)], ious[best], _mean_map(predicted)[mean.argmax()]))


def _ious(mean: Float[Tensor, " n"], chunks: list[Bool[Tensor, "m n"]]) -> Float[Tensor, " t"]:
    """Return the mean IoU of a mean map at each of THRESHOLDS."""
    masks = (mean > torch.tensor(THRESHOLDS)[:, None]).float()
    return torch.stack([_mean_iou(masks, maps.float()) for maps in chunks]).mean(dim=0)


def _mean_iou(predicted: Float[Tensor, "t n"], maps: Float[Tensor, "m n"]) -> Float[Tensor, " t"]:
    intersection = predicted @ maps.T
    union = predicted.sum(dim=1, keepdim=True) + maps.sum(dim=1) - intersection
    return (intersection / union.clamp(min=1)).mean(dim=1)


@torch.no_grad()
def iou_and_pointing(logits: Float[Tensor, "b k s s"], maps: Bool[Tensor, "b k s s"]) -> dict[str, Tensor]:
    """Return the mean IoU at probability 0.5, and the share of exemplars with the maximum in their box."""
    predicted, true = (logits > 0).flatten(2), maps.flatten(2)
    intersection, union = (predicted & true).sum(dim=-1), (predicted | true).sum(dim=-1)
    hit = true.gather(-1, logits.flatten(2).argmax(dim=-1, keepdim=True))
    return {"iou": (intersection / union.clamp(min=1)).mean(), "pointing": hit.float().mean()}
