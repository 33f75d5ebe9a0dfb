"""What a classifier can do without: parts of the image, and their order.

Source: Naseer et al., "Intriguing properties of vision transformers", NeurIPS 2021, sections 3.1 and 3.3.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from cim_lightning.errors import ConfigError


def drop_patches(
    images: Float[Tensor, "b c h w"], share: float, patches: int, generator: torch.Generator
) -> Float[Tensor, "b c h w"]:
    """Sets a random share (0..1) of a grid of patches x patches to each image's own mean color.

    Raises ConfigError where the share is not in 0..1 or the grid does not divide the image.
    """
    if not 0 <= share <= 1:
        nearest = min(max(share, 0), 1)
        raise ConfigError(f"evaluation.robustness.drop_shares=[{share}]: in 0..1; try {nearest}")
    order = _orders(len(images), patches, generator).to(images.device)
    _check(images, patches, "drop_patches")
    dropped = (order < round(share * patches**2)).view(len(images), 1, patches, patches)
    h, w = (side // patches for side in images.shape[-2:])
    mask = dropped.repeat_interleave(h, dim=2).repeat_interleave(w, dim=3)
    return torch.where(mask, images.mean(dim=(2, 3), keepdim=True), images)


def shuffle_patches(
    images: Float[Tensor, "b c h w"], patches: int, generator: torch.Generator
) -> Float[Tensor, "b c h w"]:
    """Puts a grid of patches x patches in a random order, each image in its own; 1 is the identity.

    Raises ConfigError where the grid does not divide the image.
    """
    order = _orders(len(images), patches, generator).to(images.device)
    _check(images, patches, "shuffle_patches")
    h, w = (side // patches for side in images.shape[-2:])
    cut = images.unfold(2, h, h).unfold(3, w, w)  # "b c patches patches h w"
    flat = cut.flatten(2, 3)
    mixed = flat.gather(2, order[:, None, :, None, None].expand_as(flat))
    return mixed.unflatten(2, (patches, patches)).transpose(3, 4).reshape(images.shape)


def _orders(count: int, patches: int, generator: torch.Generator) -> Tensor:
    """A random permutation of the patches for each image, "b n"."""
    chance = torch.rand((count, max(patches, 1) ** 2), generator=generator, device=generator.device)
    return chance.argsort(dim=1)


def _check(images: Tensor, patches: int, setting: str) -> None:
    h, w = images.shape[-2:]
    if patches < 1 or h % patches or w % patches:
        divisors = [n for n in range(1, min(h, w) + 1) if h % n == 0 and w % n == 0]
        nearest = min(divisors, key=lambda n: abs(n - patches))
        raise ConfigError(
            f"evaluation.robustness.{setting}={patches}: the grid must divide images of {h} x {w} pixels; "
            f"try {nearest}"
        )
