"""Probes by leaving out and by mixing up."""

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.robustness.occlusion import drop_patches, shuffle_patches

IMAGES = torch.rand(5, 3, 12, 18, generator=torch.Generator().manual_seed(0))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def patches(images: torch.Tensor, n: int) -> torch.Tensor:
    """Patches by number, row after row, cut with plain slices: "b n*n c h w"."""
    h, w = images.shape[-2] // n, images.shape[-1] // n
    cut = [images[..., i * h : (i + 1) * h, j * w : (j + 1) * w] for i in range(n) for j in range(n)]
    return torch.stack(cut, dim=1)


@pytest.mark.parametrize(("share", "count"), [(0, 0), (0.25, 9), (0.5, 18), (1, 36)])
def test_exactly_the_share_is_dropped_to_the_mean(share, count):
    dropped = patches(drop_patches(IMAGES, share, 6, seeded()), 6)
    mean = IMAGES.mean(dim=(2, 3))
    blank = torch.isclose(dropped, mean[:, None, :, None, None]).flatten(2).all(dim=2)
    same = (dropped == patches(IMAGES, 6)).flatten(2).all(dim=2)
    assert blank.sum(dim=1).tolist() == [count] * 5
    assert same.sum(dim=1).tolist() == [36 - count] * 5
    assert count in (0, 36) or (blank[0] != blank[1]).any()


def test_what_is_dropped_stays_dropped_with_more():
    few, more = (drop_patches(IMAGES, share, 6, seeded()) for share in (0.3, 0.6))
    assert torch.equal(more[few != IMAGES], few[few != IMAGES])


@pytest.mark.parametrize("n", [2, 3, 6])
def test_shuffling_moves_whole_patches_and_loses_none(n):
    before, after = patches(IMAGES, n), patches(shuffle_patches(IMAGES, n, seeded()), n)
    for i in range(5):
        where = [[torch.equal(a, b) for b in before[i]] for a in after[i]]
        assert [sum(row) for row in where] == [1] * n**2
        assert [sum(column) for column in zip(*where, strict=True)] == [1] * n**2
    assert not torch.equal(before, after)


def test_one_patch_cannot_be_shuffled():
    assert torch.equal(shuffle_patches(IMAGES, 1, seeded()), IMAGES)


def test_settings_out_of_bounds():
    with pytest.raises(ConfigError, match=r"shuffle_patches=5: .* 12 x 18 pixels; try 6"):
        shuffle_patches(IMAGES, 5, seeded())
    with pytest.raises(ConfigError, match=r"drop_shares=\[1\.5\]: in 0\.\.1; try 1"):
        drop_patches(IMAGES, 1.5, 6, seeded())
