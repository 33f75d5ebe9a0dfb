"""Tell the architecture of weights from their shapes, for messages."""

import re
from collections.abc import Mapping

from torch import Tensor

VITS = {192: "vit_tiny", 384: "vit_small", 768: "vit_base", 1024: "vit_large", 1280: "vit_huge"}
RESNETS: dict[tuple[tuple[int, ...], bool], str] = {  # blocks per stage, and whether they are bottlenecks
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}


def describe(tensors: Mapping[str, Tensor]) -> str:
    """Return the architecture of weights under timm's names, such as "a ViT of width 384"; "" if unknown."""
    patches = tensors.get("patch_embed.proj.weight")
    depth = _count(r"blocks\.(\d+)\.", tensors)
    if patches is not None and depth:
        name = f" ({VITS[len(patches)]})" if len(patches) in VITS else ""
        return f"a ViT of width {len(patches)} and depth {depth}{name}"
    blocks = tuple(_count(rf"layer{stage}\.(\d+)\.", tensors) for stage in (1, 2, 3, 4))
    return RESNETS.get((blocks, "layer1.0.conv3.weight" in tensors), "")


def _count(pattern: str, names: Mapping[str, Tensor]) -> int:
    return len({found[1] for name in names if (found := re.match(pattern, name))})
