"""A backbone with a linear layer that names classes."""

import copy
from collections.abc import Callable

import torch
from jaxtyping import Float
from timm.layers import DropPath
from torch import Tensor, nn

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone

GLOBAL_POOLS = ("mean", "pooled")


class Classifier(nn.Module):
    """Images of 0..1 to class logits, on a copy of a backbone.

    Args:
        backbone: copied; of the copy all learns, also what was frozen in pre-training.
        normalize: maps images of 0..1 to what the backbone reads.
        num_classes: logits an image.
        finetune: whether the backbone learns too; else it stays in evaluation mode, without gradients, and
            the head sees its features standardized by batch normalization without parameters.
        global_pool: "mean", over the grid, or "pooled", what the architecture pools (a ViT's class token).
        drop_path: largest probability that a residual branch is left out; rises from 0 with depth.

    Raises:
        ConfigError: a setting is outside its limits, or the architecture knows no drop path.
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
        check(global_pool, drop_path)
        self.backbone = with_drop_path(backbone, drop_path if finetune else 0.0).requires_grad_(finetune)
        self.normalize, self.finetune, self.global_pool = normalize, finetune, global_pool
        self.head = nn.Sequential(
            nn.Identity() if finetune else nn.BatchNorm1d(backbone.dim, affine=False),
            nn.Linear(backbone.dim, num_classes),
        )
        nn.init.trunc_normal_(self.head[1].weight, std=0.01)  # pyright: ignore
        nn.init.zeros_(self.head[1].bias)  # pyright: ignore

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        self.backbone.train(mode and self.finetune)
        return self

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """Class logits of images of 0..1."""
        return self.logits(self.normalize(images))

    def logits(self, normalized: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """Class logits of images that are normalized already, and perhaps mixed or erased since.

        Gradients reach the images even where the backbone does not learn: attacks want them.
        """
        features = self.backbone(normalized)
        read = features.grid.mean(dim=(2, 3)) if self.global_pool == "mean" else features.pooled
        return self.head(read).float()


def check(global_pool: str, drop_path: float) -> None:
    """Raises ConfigError where a setting is outside its limits."""
    if global_pool not in GLOBAL_POOLS:
        raise ConfigError(
            f"classifier.global_pool={global_pool}: one of {', '.join(GLOBAL_POOLS)}; try {GLOBAL_POOLS[0]}"
        )
    if not 0 <= drop_path < 1:
        nearest = 0.0 if drop_path < 0 else 0.9
        raise ConfigError(f"classifier.drop_path={drop_path}: from 0 to below 1; try {nearest}")


def with_drop_path(backbone: Backbone, rate: float) -> Backbone:
    """A copy of a backbone, of the same weights, which leaves out residual branches while it trains.

    Raises ConfigError where timm's architecture has no such thing.
    """
    if rate == backbone.timm_kwargs.get("drop_path_rate", 0):
        return copy.deepcopy(backbone)
    kwargs = dict(backbone.timm_kwargs)
    name = kwargs.pop("model_name")
    try:
        made = Backbone(name, {**kwargs, "drop_path_rate": rate}, "timm", False, "timm")
    except ConfigError:
        made = None
    if made is None or (rate and not any(isinstance(part, DropPath) for part in made.modules())):
        raise ConfigError(f"classifier.drop_path={rate}: {name} has no residual branch to leave out; try 0")
    made.model.load_state_dict(backbone.model.state_dict())
    return made.to(next(backbone.parameters()).device)


@torch.no_grad()
def top_accuracy(logits: Float[Tensor, "b n"], labels: Tensor, k: int) -> int:
    """How many images have their label among their k highest logits."""
    return int((logits.topk(min(k, logits.shape[1])).indices == labels[:, None]).any(dim=1).sum())
