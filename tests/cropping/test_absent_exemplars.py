"""Absent exemplars: which are replaced, by which, and their part of the loss by hand."""

import math
import re

import pytest
import torch
import torch.nn.functional as F

from cim_lightning.cropping.absent_exemplars import AbsentExemplars, of_next_image
from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Features

B, K = 3, 4


def numbered(b: int = B, k: int = K) -> Features:
    """Return features whose pooled value and grid are 10 * image + exemplar."""
    value = torch.tensor([10.0 * i + j for i in range(b) for j in range(k)])
    return Features(value[:, None], value[:, None, None, None].expand(-1, 2, 3, 1))


def test_the_next_image_of_the_last_one_is_the_first():
    pooled = of_next_image(numbered(), K)[0].flatten().tolist()
    assert pooled == [10, 11, 12, 13, 20, 21, 22, 23, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.25, [0, 1, 2, 13, 10, 11, 12, 23, 20, 21, 22, 3]),  # the last exemplar of each image
        (0.4, [0, 1, 2, 13, 10, 11, 22, 23, 20, 21, 2, 3]),  # 5 of 12: two of the last two images
        (0.1, [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 3]),  # 1 of 12
        (0.99, [0, 11, 12, 13, 20, 21, 22, 23, 0, 1, 2, 3]),  # one is left
        (0.0, [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]),
    ],
)
def test_a_share_of_the_exemplars_is_replaced_by_those_of_the_next_images(share, expected):
    absent = AbsentExemplars(share)
    found = Features(*absent.replace(numbered(), K))
    assert found.pooled.flatten().tolist() == expected
    assert torch.equal(found.grid, found.pooled[:, :, None, None].expand(-1, 2, 3, 1))
    own = numbered().pooled.flatten().tolist()
    left = {number for number, found in zip(own, expected, strict=True) if number == found}
    logits = torch.tensor(own).reshape(B, K, 1, 1)
    assert {*absent.present(logits).flatten().tolist()} == left
    assert absent.count(B, K) == B * K - len(left)


def test_the_loss_is_the_mean_over_all_exemplars_with_empty_maps_for_the_absent_ones():
    absent, k = AbsentExemplars(0.4), 5
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(B, k, 2, 2, generator=generator)
    maps = (torch.rand(B, k, 2, 2, generator=generator) < 0.5).float()
    true, area = maps.clone(), []
    own = numbered(B, k).pooled.flatten()
    for n in (absent.replace(numbered(B, k), k)[0].flatten() != own).nonzero().flatten().tolist():
        true[n // k, n % k] = 0
        area.append(torch.sigmoid(logits[n // k, n % k]).mean().item())
    assert len(area) == 6
    present = F.binary_cross_entropy_with_logits(absent.present(logits), absent.present(maps))
    loss, metrics = absent.add_loss(present, logits)
    probability = logits.sigmoid()
    expected = -torch.where(true == 1, probability, 1 - probability).log().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert {name: value.item() for name, value in metrics.items()} == {
        "absent_area": pytest.approx(sum(area) / 6)
    }


def test_a_batch_of_one_image_and_a_share_of_0_change_nothing():
    for absent, b in ((AbsentExemplars(0.5), 1), (AbsentExemplars(0.0), 3)):
        exemplars, logits, loss = numbered(b), torch.ones(b, K, 2, 2), torch.tensor(math.pi)
        assert absent.replace(exemplars, K) is exemplars
        assert absent.present(logits) is logits
        assert absent.add_loss(loss, logits) == (loss, {})


@pytest.mark.parametrize(
    ("share", "batch_size", "k", "message"),
    [
        (0.5, 1, 6, "absent=0.5: needs batches of 2 images or more; try absent=0"),
        (0.01, 4, 6, "absent=0.01: is less than one of the 24 exemplars of a batch; try absent=0.05"),
    ],
)
def test_a_share_without_an_absent_exemplar_is_an_error(share, batch_size, k, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        AbsentExemplars(share).check(batch_size, k)
    AbsentExemplars(0.05).check(4, 6)
    AbsentExemplars(0).check(1, 6)


@pytest.mark.parametrize("share", [1.0, -0.1, math.nan])
def test_shares_outside_0_to_1_are_an_error(share):
    with pytest.raises(ConfigError, match=r"^absent=.*: must be at least 0 and below 1; try absent=0\.\d$"):
        AbsentExemplars(share)
