"""The alignment of contexts and exemplars against closed forms."""

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.models.alignment import Alignment


def test_features_that_differ_by_offset_and_scale_are_aligned():
    features = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    exemplars = torch.stack((features * 3 + 2, features * 3 + 2), dim=1)
    assert Alignment()(features, exemplars).item() == pytest.approx(0, abs=1e-5)
    assert Alignment()(features, -exemplars).item() == pytest.approx(2, abs=1e-5)


def test_the_exemplars_of_an_image_share_a_center_with_those_of_the_others():
    """Two images at +-x, and exemplars at +-x and +-y: cosines 1 and 0."""
    online = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]) + 4
    exemplars = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, -1.0]]]) - 3
    assert Alignment()(online, exemplars).item() == pytest.approx(0.5)


def test_equal_features_have_distance_1():
    assert Alignment()(torch.ones(4, 3), torch.ones(4, 2, 3)).item() == pytest.approx(1)


def test_a_negative_weight_is_refused():
    with pytest.raises(ConfigError, match="weight"):
        Alignment(0.0)
