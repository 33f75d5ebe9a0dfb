"""Soft labels and erased rectangles, compared with the pixels."""

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.finetuning.mixup_cutmix import MixupCutmix
from cim_lightning.rng import fork_rng


def plain(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All pixels of image i have the value i, its class."""
    return torch.arange(float(n))[:, None, None, None].expand(-1, 3, 16, 16).clone(), torch.arange(n)


def mixed(mixing: MixupCutmix, n: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    with fork_rng(seed):
        return mixing(*plain(n), classes=n)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_the_mean_of_an_image_is_the_mean_of_its_soft_label(mixup: float, cutmix: float) -> None:
    for seed in range(8):
        images, targets = mixed(MixupCutmix(0.0, mixup, cutmix, 0.0), seed=seed)
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))
        torch.testing.assert_close(images.mean(dim=(1, 2, 3)), targets @ torch.arange(4.0))


def test_smoothing_computed_by_hand() -> None:
    images, targets = mixed(MixupCutmix(0.0, 0.0, 0.0, 0.2), n=5)
    assert torch.equal(images, plain(5)[0])
    torch.testing.assert_close(targets, 0.8 * torch.eye(5) + 0.2 / 5)


def test_mixing_drops_the_last_image_of_an_odd_batch() -> None:
    assert [len(part) for part in mixed(MixupCutmix(0.0, 0.8, 0.0, 0.0), n=5)] == [4, 4]
    assert [len(part) for part in mixed(MixupCutmix(0.5, 0.0, 0.0, 0.0), n=5)] == [5, 5]


def test_erasing_fills_one_rectangle_with_noise_and_leaves_the_input_unchanged() -> None:
    original, labels = plain(64)
    with fork_rng(0):
        images, _ = MixupCutmix(0.5, 0.0, 0.0, 0.0)(original, labels, 64)
    assert torch.equal(original, plain(64)[0])
    changed = (images != original).any(dim=1)
    assert 16 < changed.flatten(1).any(dim=1).sum() < 48
    for erased in changed[changed.flatten(1).any(dim=1)]:
        rows, columns = erased.any(dim=1).nonzero(), erased.any(dim=0).nonzero()
        assert erased[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert 0.01 < erased.float().mean() < 0.4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((1.5, 0.0, 0.0, 0.0), "erasing=1.5"),
        ((0.0, -1.0, 0.0, 0.0), "mixup=-1"),
        ((0.0, 0.0, -2.0, 0.0), "cutmix=-2"),
        ((0.0, 0.0, 0.0, 1.0), "smoothing=1"),
    ],
)
def test_invalid_settings_raise(settings: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{message}[^\n]*; try "):
        MixupCutmix(*settings)
