"""A backbone with a linear classifier."""

import copy
from collections.abc import Callable

import torch
from jaxtyping import Float
from timm.layers import DropPath
from torch import Tensor, nn

from cim_lightning.checks import check_one_of, check_share
from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.timm_backbone import TimmBackbone


class Classifier(nn.Module):
    """Class logits of images in 0..1, from a copy of a backbone.

    Args:
        backbone: copied, with all parameters of the copy trainable.
        normalize: maps images in 0..1 to the input of the backbone.
        num_classes: logits per image.
        finetune: train the backbone too. Otherwise it stays in evaluation mode without gradients, and its
            features pass through a batch normalization without parameters.
        global_pool: "mean" over the grid, or "pooled", the architecture's own (a ViT's class token).
        drop_path: drop probability of the last residual branch; rises linearly from 0 with the depth.

    Raises:
        ConfigError: an argument is invalid, or the architecture has no drop path.
    """

    def __init__(
        self,
        backbone: Backbone,
        normalize: Callable[[Tensor], Tensor],
        num_classes: int,
        finetune: bool,
        global_pool: str,
        drop_path: float,
    ):
        super().__init__()
        check_arguments(global_pool, drop_path)
        self.backbone = with_drop_path(backbone, drop_path if finetune else 0.0).requires_grad_(finetune)
        self.normalize, self.finetune, self.global_pool = normalize, finetune, global_pool
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
        return self.logits(self.normalize(images))

    def logits(self, normalized: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """Return the class logits of normalized images.

        Gradients reach the images even if the backbone is frozen, which adversarial attacks need.
        """
        features = self.backbone(normalized)
        pooled = features.grid.mean(dim=(2, 3)) if self.global_pool == "mean" else features.pooled
        return self.head(pooled).float()


def check_arguments(global_pool: str, drop_path: float) -> None:
    """Raise ConfigError if an argument of a Classifier is invalid."""
    check_one_of("global_pool", global_pool, ("mean", "pooled"))
    check_share("drop_path", drop_path, one=False)


def with_drop_path(backbone: Backbone, rate: float) -> Backbone:
    """Return a copy of a backbone with the same weights and another drop path rate.

    Raises:
        ConfigError: the architecture has no drop path.
    """
    if rate == backbone.timm_kwargs.get("drop_path_rate", 0):
        return copy.deepcopy(backbone)
    kwargs = {key: value for key, value in backbone.timm_kwargs.items() if key != "model_name"}
    error = ConfigError("drop_path", rate, f"{backbone.name} has no residual branch to drop", suggest=0)
    try:
        dropping = TimmBackbone(backbone.name, kwargs | {"drop_path_rate": rate}, "timm", False, "timm")
    except ConfigError:
        raise error from None
    if rate and not any(isinstance(module, DropPath) for module in dropping.modules()):
        raise error
    dropping.model.load_state_dict(backbone.model.state_dict())
    return dropping.to(next(backbone.parameters()).device)


@torch.no_grad()
def top_accuracy(logits: Float[Tensor, "b n"], labels: Tensor, k: int) -> int:
    """Return the number of images with their label among the k highest logits."""
    return int((logits.topk(min(k, logits.shape[1])).indices == labels[:, None]).any(dim=1).sum())
