"""Alignment of the features of contexts with those of their exemplars."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.checks import check_above
from cim_lightning.models.coding_rate import SMALLEST
from cim_lightning.models.gathered_keys import gather_keys


class Alignment(nn.Module):
    """Distance between the features of a context and of its exemplars, 1 - cosine, of centered features.

    Alone it has a trivial solution, the same features for all images. The coding rate prevents it.

    Source: Wu et al., "Simplifying DINO via Coding Rate Regularization", 2025, with a squared distance of two
    views of an image, which are not centered.

    Args:
        weight: factor of the loss, above 0.
    """

    def __init__(self, weight: float = 0.1):
        super().__init__()
        check_above("weight", weight, 0, suggest=0.1)
        self.weight = weight

    def forward(self, online: Float[Tensor, "b d"], exemplars: Float[Tensor, "b k d"]) -> Float[Tensor, ""]:
        """Return the mean distance, 0..2.

        The centers are those of the batch: in training of all devices, in validation of each device. So the
        value of a validation depends on the images per batch.
        """
        if self.training:
            online = gather_keys(online)[0]
            exemplars = gather_keys(exemplars.flatten(0, 1))[0].unflatten(0, (-1, exemplars.shape[1]))
        online, exemplars = online.float()[:, None], exemplars.float()
        online = F.normalize(online - online.mean(dim=0), dim=-1, eps=SMALLEST)
        exemplars = F.normalize(exemplars - exemplars.mean(dim=(0, 1)), dim=-1, eps=SMALLEST)
        return 1 - (online * exemplars).sum(dim=-1).mean()
