"""Metrics of how much the predicted maps depend on the exemplar: predictions with swapped inputs.

A decoder that ignores the exemplar can have a high skill, since boxes cover the center more often than the
edge. These metrics swap the features of exemplars and contexts, so that the encoders do not run again.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cim_lightning.cropping.correlation_metrics import MeanMapBaseline
from cim_lightning.metric_registry import COLUMN, PLOT, PRETEXT, TABLE, Metric

SENSITIVITY_METRICS = tuple(
    metric._replace(validation_only=True)
    for metric in (
        Metric(
            "exemplar_sensitivity",
            "exemplar sensitivity",
            PRETEXT,
            (TABLE, PLOT, COLUMN),
            True,
            "sensitivity",
            digits=1,
            baseline=50.0,
            unit="%",
        ),
        Metric("skill_swapped", "skill, foreign exemplar", PRETEXT, (TABLE, COLUMN), baseline=0.0),
        Metric("skill_other_exemplar", "skill, other exemplar", PRETEXT, (TABLE,), baseline=0.0),
        Metric("skill_other_context", "skill, foreign context", PRETEXT, (TABLE,), baseline=0.0),
        Metric(
            "variance_position", "logits by position", PRETEXT, (TABLE,), digits=1, baseline=100.0, unit="%"
        ),
        Metric("variance_context", "logits by context", PRETEXT, (TABLE,), digits=1, baseline=0.0, unit="%"),
        Metric(
            "variance_exemplar", "logits by exemplar", PRETEXT, (TABLE,), digits=1, baseline=0.0, unit="%"
        ),
    )
)


@torch.no_grad()
def exemplar_sensitivity(
    logits: Float[Tensor, "b k s s"],
    swapped: Float[Tensor, "b k s s"],
    maps: Float[Tensor, "b k s s"],
    baseline: MeanMapBaseline | None,
) -> dict[str, Tensor]:
    """Return the metrics that a batch defines: without those of one image or one exemplar if it has only one.

    * exemplar_sensitivity: percentage of the pairs of exemplars of an image in which the prediction for the
      first has a lower cross-entropy against its own map than against that of the second; equal ones count
      half. 50 for a decoder that ignores the exemplar, 100 for a perfect one.
    * skill_other_exemplar, skill_swapped: skill against the map of an exemplar if the decoder gets another
      exemplar of the image, or one of another image.
    * skill_other_context: skill against the map of the exemplar if the decoder gets the context of another
      image.
    * variance_position, variance_context, variance_exemplar: shares of the sum of squares of the logits, in
      percent, as in a nested analysis of variance. They add up to 100. By position: the mean over all images
      and exemplars. By context: the mean over the exemplars of an image, minus the former. By exemplar: the
      rest. With k exemplars, 1/k of the variance between independent exemplars counts as that of the context.
      Constant logits have the shares 0.

    Args:
        logits: of each context with its own exemplars.
        swapped: of each context with the exemplars of the next image; the last context has the first image's.
        maps: of the exemplars, 0..1.
        baseline: whose skill is 0; None: without skills.
    """
    logits, swapped, maps = (tensor.flatten(2) for tensor in (logits, swapped, maps))
    b, k, pixels = logits.shape
    metrics: dict[str, Tensor] = {}
    if k > 1:
        # The cross-entropies of a prediction against two maps differ only by its products with the maps.
        fits = logits @ maps.transpose(1, 2) / pixels
        own = fits.diagonal(dim1=1, dim2=2)[..., None]
        preferred = (own > fits).float() + (own == fits).float() / 2  # a half on the diagonal
        metrics["exemplar_sensitivity"] = 100 * (preferred.sum() - b * k / 2) / (b * k * (k - 1))
        other = (fits.sum() - own.sum()) / (b * k * (k - 1))
        if baseline is not None:
            metrics["skill_other_exemplar"] = baseline.skill(F.softplus(logits).mean() - other)
    if b > 1 and baseline is not None:
        for name, places in (("skill_swapped", maps), ("skill_other_context", maps.roll(-1, 0))):
            metrics[name] = baseline.skill(F.binary_cross_entropy_with_logits(swapped, places))
    return metrics | (_variance_shares(logits) if b > 1 and k > 1 else {})


def _variance_shares(logits: Float[Tensor, "b k p"]) -> dict[str, Tensor]:
    of_image = logits.mean(dim=1, keepdim=True)
    of_position = of_image.mean(dim=0, keepdim=True)
    parts = {
        "position": (of_position - of_position.mean()).square().mean(),
        "context": (of_image - of_position).square().mean(),
        "exemplar": (logits - of_image).square().mean(),
    }
    total = sum(parts.values(), start=logits.new_zeros(())).clamp(min=torch.finfo(logits.dtype).tiny)
    return {f"variance_{name}": 100 * part / total for name, part in parts.items()}
