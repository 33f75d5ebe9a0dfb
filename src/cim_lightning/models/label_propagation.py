"""Label propagation: carry maps from one frame to another by the similarity of their features."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cim_lightning.checks import check_above


@dataclass(frozen=True)
class LabelPropagation:
    """Maps in another frame, from the affinity of patches.

    Each patch of the new frame gets the mean of the map over the patches of the other frame, weighted by the
    softmax of the cosine similarities divided by the temperature.

    Source: Jabri et al., "Space-Time Correspondence as a Contrastive Random Walk", NeurIPS 2020.
    """

    temperature: float = 0.07  # of the softmax over cosine similarities, above 0

    def __post_init__(self) -> None:
        check_above("temperature", self.temperature, 0, suggest=0.07)

    def __call__(
        self, new: Float[Tensor, "b d h w"], other: Float[Tensor, "b d h w"], maps: Float[Tensor, "b k s t"]
    ) -> Float[Tensor, "b k s t"]:
        """Return the maps in the new frame.

        Args:
            new, other: features of the frames.
            maps: in the other frame, 0..1.
        """
        grid, size = (new.shape[-2], new.shape[-1]), (maps.shape[-2], maps.shape[-1])
        queries, keys = (F.normalize(features.flatten(2), dim=1) for features in (new, other))
        affinity = (queries.transpose(1, 2) @ keys / self.temperature).softmax(dim=-1)
        labels = F.adaptive_avg_pool2d(maps, grid).flatten(2)
        moved = (labels @ affinity.transpose(1, 2)).unflatten(-1, grid)
        return F.interpolate(moved, size, mode="bilinear", align_corners=False).clamp(0, 1)
