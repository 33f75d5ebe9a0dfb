"""Occlusion and permutation of patches.

Source: Naseer et al., "Intriguing properties of vision transformers", NeurIPS 2021, sections 3.1 and 3.3.
"""

import torch
from torch import Generator, Tensor

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.corruptions.image_ops import Images


def drop_patches(images: Images, share: float, grid: int, generator: Generator) -> Images:
    """Set a random share (0..1) of grid x grid patches to the mean color; the grid must divide the image."""
    order, h, w = _permutations("drop_patches", images, grid, generator)
    dropped = (order < round(share * grid**2)).view(len(images), 1, grid, grid)
    mask = dropped.repeat_interleave(h, dim=2).repeat_interleave(w, dim=3)
    return torch.where(mask, images.mean(dim=(2, 3), keepdim=True), images)


def shuffle_patches(images: Images, grid: int, generator: Generator) -> Images:
    """Permute grid x grid patches randomly, each image differently; the grid must divide the image."""
    order, h, w = _permutations("shuffle_patches", images, grid, generator)
    patches = images.unfold(2, h, h).unfold(3, w, w).flatten(2, 3)  # "b c n h w"
    shuffled = patches.gather(2, order[:, None, :, None, None].expand_as(patches))
    return shuffled.unflatten(2, (grid, grid)).transpose(3, 4).reshape(images.shape)


def _permutations(parameter: str, images: Images, grid: int, generator: Generator) -> tuple[Tensor, int, int]:
    """Return a random permutation of the patches per image, "b n", and the height and width of a patch."""
    h, w = images.shape[-2:]
    if grid < 1 or h % grid or w % grid:
        divisors = [n for n in range(1, min(h, w) + 1) if h % n == 0 and w % n == 0]
        nearest = min(divisors, key=lambda n: abs(n - grid))
        raise ConfigError(parameter, grid, f"must divide images of {h} x {w} pixels", suggest=nearest)
    draws = torch.rand((len(images), grid**2), generator=generator, device=generator.device)
    return draws.argsort(dim=1).to(images.device), h // grid, w // grid
