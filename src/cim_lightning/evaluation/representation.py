"""Label-free metrics of the features, and attention maps of a ViT."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from cim_lightning.checks import check_at_least
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.features import Vectors, effective_rank, extract, spread

MAX_HEADS = 6  # per picture


@dataclass
class Representation:
    """Label-free metrics of the mean over the grid, and a picture of a ViT's attention in the last block."""

    num_images: int  # validation images
    num_pictures: int  # rows of the picture; 0: no picture

    def __post_init__(self) -> None:
        check_at_least("num_images", self.num_images, 2)
        check_at_least("num_pictures", self.num_pictures, 0)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return effective rank (1..d), spread, alignment (0..4) and uniformity (-8..0).

        Low alignment and uniformity are better.
        """
        data, processes = context.data, (context.rank, context.world_size)
        features = context.features("val", self.num_images).mean.float()
        first, second = (
            extract(context.backbone, loader, context.device).mean.float()
            for loader in (
                data.random_crop_dataloader("val", self.num_images, epoch, *processes) for epoch in range(2)
            )
        )
        if self.num_pictures and hasattr(context.backbone.model, "blocks"):
            batch = next(iter(context.batches("val", self.num_pictures, shard=False)))
            images = batch.views[: self.num_pictures].to(context.device).float() / 255
            maps = attention(context.backbone.model, context.backbone.normalize(images))
            draw(images.cpu(), maps.cpu()).savefig(context.folder / "attention.png", dpi=110)
        return {
            "effective_rank": effective_rank(features),
            "spread": spread(features),
            "alignment": alignment(first, second),
            "uniformity": uniformity(features),
        }


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
def attention(model: Any, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b heads h2 w2"]:
    """Return the attention from the class token to the patches in the last block of a timm ViT.

    Without a class token, it is the mean attention from all patches.
    """
    model = copy.deepcopy(model).eval()
    last = model.blocks[-1].attn
    last.fused_attn = False  # the fused kernel does not expose the attention weights
    weights = []
    last.attn_drop.register_forward_pre_hook(lambda _, inputs: weights.append(inputs[0]))
    model.forward_features(images)
    rows = weights[0][:, :, :1] if model.has_class_token else weights[0]
    h, w = model.patch_embed.dynamic_feat_size(images.shape[-2:])
    return rows[..., model.num_prefix_tokens :].mean(dim=2).unflatten(-1, (h, w))


def draw(images: Float[Tensor, "b 3 h w"], maps: Float[Tensor, "b heads h2 w2"]) -> Figure:
    """Draw one row per image: the image and the maps of its first heads, each from 0 to its own maximum."""
    titles = ["image", *(f"head {i + 1}" for i in range(min(maps.shape[1], MAX_HEADS)))]
    figure = Figure(figsize=(1.3 * len(titles), 1.3 * len(images)), layout="constrained")
    axes = figure.subplots(len(images), len(titles), squeeze=False)
    for row, image, heads in zip(axes, images.clamp(0, 1), maps, strict=True):
        for cell, tile in zip(row, [image.permute(1, 2, 0), *heads[:MAX_HEADS]], strict=True):
            cell.imshow(tile.numpy(), cmap="magma", vmin=0)  # RGB images ignore cmap and vmin
            cell.set_axis_off()
    for cell, title in zip(axes[0], titles, strict=True):
        cell.set_title(title, fontsize=9)
    return figure
