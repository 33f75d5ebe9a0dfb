"""Patch dropping and patch shuffling."""

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.robustness.occlusion import drop_patches, shuffle_patches

IMAGES = torch.rand(5, 3, 12, 18, generator=torch.Generator().manual_seed(0))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def patches(images: torch.Tensor, n: int) -> torch.Tensor:
    """Patches in row-major order, cut with plain slices: "b n*n c h w"."""
    h, w = images.shape[-2] // n, images.shape[-1] // n
    cut = [images[..., i * h : (i + 1) * h, j * w : (j + 1) * w] for i in range(n) for j in range(n)]
    return torch.stack(cut, dim=1)


@pytest.mark.parametrize(("share", "count"), [(0, 0), (0.25, 9), (0.5, 18), (1, 36)])
def test_exactly_the_share_of_patches_becomes_the_mean(share, count):
    dropped = patches(drop_patches(IMAGES, share, 6, seeded()), 6)
    mean = IMAGES.mean(dim=(2, 3))
    is_mean = torch.isclose(dropped, mean[:, None, :, None, None]).flatten(2).all(dim=2)
    unchanged = (dropped == patches(IMAGES, 6)).flatten(2).all(dim=2)
    assert is_mean.sum(dim=1).tolist() == [count] * 5
    assert unchanged.sum(dim=1).tolist() == [36 - count] * 5
    assert count in (0, 36) or (is_mean[0] != is_mean[1]).any()


def test_a_larger_share_drops_the_same_patches_and_more():
    small, large = (drop_patches(IMAGES, share, 6, seeded()) for share in (0.3, 0.6))
    assert torch.equal(large[small != IMAGES], small[small != IMAGES])


@pytest.mark.parametrize("n", [2, 3, 6])
def test_shuffling_permutes_whole_patches(n):
    before, after = patches(IMAGES, n), patches(shuffle_patches(IMAGES, n, seeded()), n)
    for i in range(5):
        equal = [[torch.equal(a, b) for b in before[i]] for a in after[i]]
        assert [sum(row) for row in equal] == [1] * n**2
        assert [sum(column) for column in zip(*equal, strict=True)] == [1] * n**2
    assert not torch.equal(before, after)


def test_shuffling_one_patch_is_the_identity():
    assert torch.equal(shuffle_patches(IMAGES, 1, seeded()), IMAGES)


def test_a_grid_that_does_not_divide_the_image_is_an_error():
    with pytest.raises(ConfigError, match=r"^shuffle_patches=5: .* 12 x 18 pixels; try shuffle_patches=6$"):
        shuffle_patches(IMAGES, 5, seeded())
    with pytest.raises(ConfigError, match=r"^drop_patches=0: .*; try drop_patches=1$"):
        drop_patches(IMAGES, 0.5, 0, seeded())
