"""The coding rate of the features of a batch, which grows as the features of different images differ."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.checks import check_above
from cim_lightning.models.autocast import autocast_device
from cim_lightning.models.gathered_keys import gather_keys

SMALLEST = 1e-4  # centered features are divided by at least this length, so that rounding errors stay small


class CodingRate(nn.Module):
    """Measures how far the features of a batch spread over all directions.

    With the pixel loss alone, features use few directions, and k-NN is worse (experiments/search/README.md).

    Sources: the rate is that of Yu, Chan, You, Song, Ma, "Learning Diverse and Discriminative Representations
    via the Principle of Maximal Coding Rate Reduction", NeurIPS 2020; Wu et al., "Simplifying DINO via Coding
    Rate Regularization", 2025, use it against collapse. Zhang, Wang, Wang, "How Mask Matters", NeurIPS 2022,
    add another measure of uniformity to MAE.

    Args:
        weight: factor of the rate in the loss, above 0.
        distortion: squared error at which a direction counts as coded, in units of the squared length 1.
    """

    def __init__(self, weight: float = 0.05, distortion: float = 0.5):
        super().__init__()
        check_above("weight", weight, 0, suggest=0.05)
        check_above("distortion", distortion, 0, suggest=0.5)
        self.weight, self.distortion = weight, distortion

    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
        """Return the rate per direction in nats, of centered features of length 1.

        It is 0 if all images have the same features. It depends on the number of images. In training,
        features are gathered over all devices; in validation, the batch is that of each device.
        """
        if self.training:
            features, _ = gather_keys(features)
        with torch.autocast(autocast_device(features), enabled=False):
            features = features.float()
            features = F.normalize(features - features.mean(dim=0), dim=-1, eps=SMALLEST)
            b, d = features.shape
            # Both products have the same eigenvalues above 0; the smaller one is cheaper.
            product = features @ features.T if b < d else features.T @ features
            identity = torch.eye(len(product), device=features.device)
            rate = torch.logdet(identity + d / (b * self.distortion) * product)
        return rate / 2 / min(b, d)
