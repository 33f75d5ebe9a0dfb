"""A backbone with a linear classifier."""

from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.checks import check_one_of, check_share
from cim_lightning.models.backbone import FEATURES, Backbone


class Classifier(nn.Module):
    """Class logits of images in 0..1, from a copy of a backbone.

    Args:
        backbone: copied, with all parameters of the copy trainable.
        num_classes: logits per image.
        finetune: train the backbone too. Otherwise it stays in evaluation mode without gradients, and its
            features pass through a batch normalization without parameters.
        features: "mean" over the grid, or "pooled", the architecture's own (a ViT's class token).
        drop_path: drop probability of the last residual branch; rises linearly from 0 with the depth.

    Raises:
        ConfigError: an argument is invalid, or the architecture has no drop path.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        finetune: bool,
        features: str,
        drop_path: float,
    ):
        super().__init__()
        check_arguments(features, drop_path)
        copy = backbone.with_drop_path(drop_path if finetune else 0.0)
        self.backbone = copy.requires_grad_(finetune)
        self.finetune, self.features = finetune, features
        linear = nn.Linear(backbone.dim, num_classes)
        nn.init.trunc_normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)
        norm = nn.Identity() if finetune else nn.BatchNorm1d(backbone.dim, affine=False)
        self.head = nn.Sequential(norm, linear)

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        self.backbone.train(mode and self.finetune)
        return self

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """Return the class logits of images in 0..1."""
        return self.logits(self.backbone.normalize(images))

    def logits(self, normalized: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """Return the class logits of normalized images.

        Gradients reach the images even if the backbone is frozen, which adversarial attacks need.
        """
        return self.head(self.backbone(normalized).get(self.features)).float()


def check_arguments(features: str, drop_path: float) -> None:
    """Raise ConfigError if an argument of a Classifier is invalid."""
    check_one_of("features", features, FEATURES)
    check_share("drop_path", drop_path, one=False)
