"""The map loss of CIM, and the metrics of predicted correlation maps."""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from cim_lightning.cropping.absent_exemplars import ABSENT_AREA, AbsentExemplars, Rows, of_next_image
from cim_lightning.cropping.correlation_metrics import METRICS, MeanMapBaseline, iou_and_pointing
from cim_lightning.cropping.exemplar_sensitivity import SENSITIVITY_METRICS, exemplar_sensitivity
from cim_lightning.metric_registry import BASELINE

MAP_METRICS = (*METRICS, *SENSITIVITY_METRICS, ABSENT_AREA)
Change = Callable[[Rows, int], Rows]  # of the features of b k exemplars; the second argument is k


class MapObjective:
    """Compares predicted maps with the true ones.

    Args:
        baseline: mean-map baseline of the cropping; its skill is 0.
        absent: share of the exemplars that come from other images and have empty maps. Skill, IoU and
            pointing accuracy are those of the others.
    """

    def __init__(self, baseline: MeanMapBaseline, absent: float):
        self.baseline, self.absent = baseline, AbsentExemplars(absent)

    def replace(self, exemplars: Rows, k: int) -> Rows:
        """Return the features of b k exemplars, of which the absent ones are those of other images."""
        return self.absent.replace(exemplars, k)

    def loss(
        self, logits: Float[Tensor, "b k s s"], maps: Float[Tensor, "b k s s"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the mean cross-entropy over all pixels, and its metrics."""
        present = F.binary_cross_entropy_with_logits(self.absent.present(logits), self.absent.present(maps))
        loss, metrics = self.absent.add_loss(present, logits)
        return loss, metrics | {"skill": self.baseline.skill(present)}

    def scores(self, logits: Float[Tensor, "b k s s"], maps: Bool[Tensor, "b k s s"]) -> dict[str, Tensor]:
        """Return the metrics of places, and those of the baseline."""
        scores = iou_and_pointing(self.absent.present(logits), self.absent.present(maps))
        of_baseline = {name: getattr(self.baseline, name) for name in ("iou", "best_iou", "pointing")}
        return scores | {name + BASELINE: logits.new_full((), of_baseline[name]) for name in of_baseline}

    def sensitivity(
        self,
        decode: Callable[[Change], Float[Tensor, "b k s s"]],
        logits: Float[Tensor, "b k s s"],
        maps: Float[Tensor, "b k s s"],
        has_skill: bool,
    ) -> dict[str, Tensor]:
        """Return the metrics of `exemplar_sensitivity`, for one more pass of the decoder, or two.

        Args:
            decode: returns the logits after a change of the features of the exemplars.
            logits: after `replace`.
            maps: the true maps.
            has_skill: whether the logits were trained by `loss`; otherwise, there are no skills.
        """
        own = decode(unchanged) if self.absent.share else logits
        baseline = self.baseline if has_skill else None
        return exemplar_sensitivity(own.float(), decode(of_next_image).float(), maps, baseline)


def unchanged(exemplars: Rows, k: int) -> Rows:
    """Return the features of the exemplars as they are."""
    return exemplars
