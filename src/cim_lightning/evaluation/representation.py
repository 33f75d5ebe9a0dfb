"""Label-free metrics of the features, and attention maps of a ViT."""

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from cim_lightning.checks import check_at_least
from cim_lightning.cropping.views import rgb_preview, to_unit_range
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.features import Vectors, effective_rank, extract, spread
from cim_lightning.metric_registry import Metric
from cim_lightning.models.backbone import Backbone

MAX_HEADS = 6  # per picture
VIEWS = 3  # of each image: the whole image, and two random views


@dataclass
class Representation:
    """Label-free metrics of the mean over the grid, and a picture of the attention in a ViT's last block."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("effective_rank", "effective rank", digits=1),
        Metric("spread", "spread"),
        Metric("alignment", "alignment", higher_is_better=False),
        Metric("uniformity", "uniformity", higher_is_better=False),
    )

    num_images: int  # validation images
    num_pictures: int  # rows of the picture; 0: no picture

    def __post_init__(self) -> None:
        check_at_least("num_images", self.num_images, 2)
        check_at_least("num_pictures", self.num_pictures, 0)

    def applies(self, context: EvalContext) -> str | None:
        enough = context.num_images("val", self.num_images) >= 2
        return None if enough else "needs at least two validation images"

    def forward_passes(self, context: EvalContext) -> float:
        return VIEWS * context.num_images("val", self.num_images) + self.num_pictures

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return effective rank (1..d), spread, alignment (0..4) and uniformity (-8..0).

        Low alignment and uniformity are better.
        """
        processes = (context.rank, context.world_size)
        features = context.features("val", self.num_images).mean.float()
        views = [
            context.data.eval_dataloader("val", self.num_images, context.data.view, *processes, epoch)
            for epoch in range(2)
        ]
        first, second = (
            extract(context.backbone, view, context.device, len(features)).mean.float() for view in views
        )
        context.record(features="mean", val_images=len(features), views_of_alignment=repr(context.data.view))
        if self.num_pictures and context.rank == 0:
            self.draw_attention(context)
        return {
            "effective_rank": effective_rank(features),
            "spread": spread(features),
            "alignment": alignment(first, second),
            "uniformity": uniformity(features),
        }

    def draw_attention(self, context: EvalContext) -> None:
        """Write attention.png, if the backbone has global attention."""
        batch = next(iter(context.batches("val", self.num_pictures, shard=False)))
        images = to_unit_range(batch[0][: self.num_pictures].to(context.device))
        maps = attention(context.backbone, context.backbone.normalize(images))
        if maps is not None:
            draw(images.cpu(), maps.cpu()).savefig(context.folder / "attention.png", dpi=110)


def alignment(first: Vectors, second: Vectors) -> float:
    """Return the mean squared distance between unit-length features of two views of each image, 0..4.

    Source: Wang and Isola, ICML 2020, section 4.
    """
    return (F.normalize(first, dim=1) - F.normalize(second, dim=1)).square().sum(dim=1).mean().item()


def uniformity(features: Vectors) -> float:
    """Return the log of the mean of exp(-2 squared distance) over pairs of unit-length features, -8..0.

    Source: see `alignment`.
    """
    distances = torch.pdist(F.normalize(features, dim=1))
    return (-2 * distances.square()).exp().mean().log().item()


@torch.no_grad()
def attention(backbone: Backbone, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b heads h2 w2"] | None:
    """Return the attention from the first prefix token to the patches in the last block.

    Without prefix tokens, it is the mean attention from all patches. None: the last block has no attention
    between all tokens, or its module differs from timm's `Attention`.
    """
    backbone = copy.deepcopy(backbone).eval()
    block: Any = backbone.blocks()[-1] if backbone.blocks() else None
    module: Any = getattr(block, "attn", None)
    if not (hasattr(module, "fused_attn") and hasattr(module, "attn_drop")):
        return None
    module.fused_attn = False  # the fused kernel does not expose the attention weights
    weights = []
    module.attn_drop.register_forward_pre_hook(lambda _, inputs: weights.append(inputs[0]))
    h, w = backbone(images).grid.shape[-2:]
    prefix = backbone.num_prefix_tokens
    if not weights or weights[0].shape[-1] != prefix + h * w:  # attention inside windows
        return None
    rows = weights[0][:, :, :1] if prefix else weights[0]
    return rows[..., prefix:].mean(dim=2).unflatten(-1, (h, w))


def draw(images: Float[Tensor, "b c h w"], maps: Float[Tensor, "b heads h2 w2"]) -> Figure:
    """Draw one row per image: the image and the maps of its first heads, each from 0 to its own maximum."""
    titles = ["image", *(f"head {i + 1}" for i in range(min(maps.shape[1], MAX_HEADS)))]
    figure = Figure(figsize=(1.3 * len(titles), 1.3 * len(images)), layout="constrained")
    axes = figure.subplots(len(images), len(titles), squeeze=False)
    for row, image, heads in zip(axes, rgb_preview(images), maps, strict=True):
        for cell, tile in zip(row, [image.permute(1, 2, 0), *heads[:MAX_HEADS]], strict=True):
            cell.imshow(tile.numpy(), cmap="magma", vmin=0)  # RGB images ignore cmap and vmin
            cell.set_axis_off()
    for cell, title in zip(axes[0], titles, strict=True):
        cell.set_title(title, fontsize=9)
    return figure
