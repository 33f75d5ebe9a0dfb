"""The coding rate against closed forms and a transcription with eigenvalues."""

import math

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.models.coding_rate import CodingRate


def test_equal_features_have_rate_0():
    assert CodingRate()(torch.randn(5).expand(7, -1)).item() == pytest.approx(0, abs=1e-4)


def test_opposite_features_have_one_direction():
    """Of two images, the centered features are v and -v: one eigenvalue d / (b distortion) * 2."""
    features = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    expected = math.log(1 + 6 / (2 * 0.25) * 2) / 2 / 2
    assert CodingRate(distortion=0.25)(features).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("b", "d"), [(5, 11), (11, 5), (7, 7)])
def test_the_rate_is_the_sum_over_the_eigenvalues_of_the_covariance(b, d):
    features = torch.randn(b, d, generator=torch.Generator().manual_seed(1)) * 3 + 2
    centered = features - features.mean(dim=0)
    rows = torch.stack([row / row.norm() for row in centered])
    eigenvalues = torch.linalg.eigvalsh(rows.T @ rows / b)
    expected = sum(math.log(1 + d / 0.5 * max(value.item(), 0)) for value in eigenvalues) / 2 / min(b, d)
    assert CodingRate()(features).item() == pytest.approx(expected, rel=1e-4)


def test_the_rate_does_not_depend_on_offset_scale_and_rotation():
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3)))[0]
    rate = CodingRate()
    torch.testing.assert_close(rate(features @ rotation * 5 + 3), rate(features), atol=1e-5, rtol=1e-5)


def test_the_gradient_spreads_features_of_one_direction():
    noise = torch.randn(16, 8, generator=torch.Generator().manual_seed(4))
    features = torch.linspace(-1, 1, 16)[:, None] * torch.ones(8) + 0.01 * noise
    rate = CodingRate()
    before = rate(features)
    for _ in range(20):
        features = features.detach().requires_grad_()
        rate(features).backward()
        features = features + features.grad / features.grad.norm()
    assert rate(features) > before * 1.5


def test_autocast_does_not_round_the_rate():
    features = torch.randn(6, 9, generator=torch.Generator().manual_seed(5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = CodingRate()(features)
    torch.testing.assert_close(rounded, CodingRate()(features), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("mistake", [{"weight": 0}, {"distortion": 0}])
def test_a_value_out_of_range_is_refused(mistake):
    with pytest.raises(ConfigError, match=next(iter(mistake))):
        CodingRate(**mistake)


def test_operations_are_counted_on_the_meta_device():
    assert CodingRate()(torch.ones(3, 5, device="meta")).shape == ()
