"""What features are like, without a label: rank, spread, alignment, uniformity, and where a ViT colors."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.features import effective_rank, extract, spread

HEADS = 6  # shown of the last block


class Representation:
    """Numbers on the mean over the grid, and attention maps of a ViT's last block as a picture.

    Args:
        num_images: validation images to look at.
        num_pictures: of them shown with their attention maps; 0 draws none.
    """

    def __init__(self, num_images: int, num_pictures: int):
        if num_images < 2:
            raise ConfigError(f"evaluation.representation.num_images={num_images}: at least 2; try 2")
        if num_pictures < 0:
            raise ConfigError(f"evaluation.representation.num_pictures={num_pictures}: 0 or more; try 0")
        self.num_images, self.num_pictures = num_images, num_pictures

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Effective rank (1..d), spread, alignment (0..4) and uniformity (-8..0); the last two best low."""
        whole = context.features("val", self.num_images).mean
        one, other = (
            extract(
                context.backbone,
                context.data.random_crop_dataloader("val", self.num_images, epoch),
                context.normalize,
                context.device,
            ).mean
            for epoch in range(2)
        )
        if self.num_pictures and hasattr(context.backbone.model, "blocks"):
            batch = next(iter(context.data.center_crop_dataloader("val", self.num_pictures)))
            images = batch.views[: self.num_pictures].to(context.device).float() / 255
            maps = attention(context.backbone.model, context.normalize(images))
            draw(images.cpu(), maps.cpu()).savefig(context.folder / "attention.png", dpi=110)
        return {
            "effective_rank": effective_rank(whole),
            "spread": spread(whole),
            "alignment": alignment(one, other),
            "uniformity": uniformity(whole),
        }


def alignment(one: Float[Tensor, "n d"], other: Float[Tensor, "n d"]) -> float:
    """Mean squared distance between unit features of two random views of an image, 0..4.

    Source: Wang and Isola, "Understanding contrastive representation learning through alignment and
    uniformity on the hypersphere", ICML 2020, section 4.
    """
    return (F.normalize(one, dim=1) - F.normalize(other, dim=1)).square().sum(dim=1).mean().item()


def uniformity(features: Float[Tensor, "n d"]) -> float:
    """Logarithm of the mean of exp(-2 squared distance) over pairs of unit features, -8..0 (same source)."""
    distances = torch.pdist(F.normalize(features, dim=1))
    return (-2 * distances.square()).exp().mean().log().item()


@torch.no_grad()
def attention(model: Any, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b heads h2 w2"]:
    """What the class token attends to in the last block of a timm ViT; without one, what all patches do."""
    model = copy.deepcopy(model).eval()
    last = model.blocks[-1].attn
    last.fused_attn = False  # which never forms the weights that are asked for
    seen = []
    last.attn_drop.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.forward_features(images)
    prefix = model.num_prefix_tokens
    rows = seen[0][:, :, :1] if model.has_class_token else seen[0]
    h, w = model.patch_embed.dynamic_feat_size(images.shape[-2:])
    return rows[..., prefix:].mean(dim=2).unflatten(-1, (h, w))


def draw(images: Float[Tensor, "b c h w"], maps: Float[Tensor, "b heads h2 w2"]) -> Figure:
    """A row an image: itself and the maps of its first heads, each from 0 to its own maximum."""
    heads = min(maps.shape[1], HEADS)
    figure = Figure(figsize=(1.3 * (heads + 1), 1.3 * len(images)), layout="constrained")
    grid = figure.subplots(len(images), heads + 1, squeeze=False)
    for row, image, attended in zip(grid, images, maps, strict=True):
        row[0].imshow(image.permute(1, 2, 0).clamp(0, 1).numpy())
        for axes, head in zip(row[1:], attended, strict=False):
            axes.imshow(head.numpy(), cmap="magma", vmin=0)
        for axes in row:
            axes.set_axis_off()
    for axes, title in zip(grid[0], ["image", *(f"head {i + 1}" for i in range(heads))], strict=True):
        axes.set_title(title, fontsize=9)
    return figure
