"""Shares of classes, checked against what the pixels say."""

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.finetuning.mixup_cutmix import MixupCutmix
from cim_lightning.rng import fork_rng


def plain(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Image i is of the color i, and of the class i."""
    return torch.arange(float(n))[:, None, None, None].expand(-1, 3, 16, 16).clone(), torch.arange(n)


def mixed(mixing: MixupCutmix, n: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    with fork_rng(seed):
        return mixing(*plain(n), classes=n)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_the_mean_of_an_image_is_the_mean_of_its_classes(mixup: float, cutmix: float) -> None:
    for seed in range(8):
        images, shares = mixed(MixupCutmix(0.0, mixup, cutmix, 0.0), seed=seed)
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(4))
        torch.testing.assert_close(images.mean(dim=(1, 2, 3)), shares @ torch.arange(4.0))


def test_smoothing_by_hand() -> None:
    images, shares = mixed(MixupCutmix(0.0, 0.0, 0.0, 0.2), n=5)
    assert torch.equal(images, plain(5)[0])
    torch.testing.assert_close(shares, 0.8 * torch.eye(5) + 0.2 / 5)


def test_of_an_odd_batch_the_last_is_left_out_where_pairs_are_mixed() -> None:
    assert [len(part) for part in mixed(MixupCutmix(0.0, 0.8, 0.0, 0.0), n=5)] == [4, 4]
    assert [len(part) for part in mixed(MixupCutmix(0.5, 0.0, 0.0, 0.0), n=5)] == [5, 5]


def test_erasing_leaves_noise_in_one_rectangle_and_the_given_images_alone() -> None:
    given, labels = plain(64)
    with fork_rng(0):
        images, _ = MixupCutmix(0.5, 0.0, 0.0, 0.0)(given, labels, 64)
    assert torch.equal(given, plain(64)[0])
    changed = (images != given).any(dim=1)
    assert 16 < changed.flatten(1).any(dim=1).sum() < 48
    for one in changed[changed.flatten(1).any(dim=1)]:
        rows, columns = one.any(dim=1).nonzero(), one.any(dim=0).nonzero()
        assert one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert 0.01 < one.float().mean() < 0.4


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ((1.5, 0.0, 0.0, 0.0), "mixing.erasing=1.5"),
        ((0.0, -1.0, 0.0, 0.0), "mixing.mixup=-1"),
        ((0.0, 0.0, -2.0, 0.0), "mixing.cutmix=-2"),
        ((0.0, 0.0, 0.0, 1.0), "mixing.smoothing=1"),
    ],
)
def test_a_mistake_gets_one_line(settings: tuple, told: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{told}[^\n]*try "):
        MixupCutmix(*settings)
