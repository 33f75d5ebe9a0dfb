"""Maps that follow the content of the frames."""

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.models.label_propagation import LabelPropagation


def unique_features(b: int, h: int, w: int) -> torch.Tensor:
    """Return a grid of orthogonal features, scaled because only their direction counts."""
    features = torch.eye(h * w).unflatten(1, (h, w))[None].repeat(b, 1, 1, 1)
    return features * torch.linspace(0.5, 3, h * w).view(1, 1, h, w)


def test_maps_move_with_the_features():
    other = unique_features(2, 3, 5)
    new = other.roll((1, 2), dims=(2, 3))  # everything moves by one row and two columns
    maps = torch.rand(2, 4, 3, 5)
    moved = LabelPropagation(temperature=0.01)(new, other, maps)
    torch.testing.assert_close(moved, maps.roll((1, 2), dims=(2, 3)), rtol=0, atol=1e-5)


def test_the_mean_of_a_hand_computed_softmax():
    """Two patches at an angle of 60 degrees: the affinities are softmax([1, 0.5] / temperature)."""
    other = torch.tensor([[1.0, 0.5], [0.0, 3**0.5 / 2]])[None, :, None, :]  # b d 1 2
    maps = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    moved = LabelPropagation(temperature=0.25)(other, other, maps)
    weight = 1 / (1 + torch.tensor((0.5 - 1) / 0.25).exp())
    torch.testing.assert_close(moved.flatten(), torch.stack((weight, 1 - weight)))


def test_maps_are_reduced_to_the_grid_and_enlarged_again():
    features = unique_features(1, 2, 2)
    maps = torch.zeros(1, 1, 8, 8)
    maps[..., :4, 4:] = 1  # exactly the upper right patch
    moved = LabelPropagation(temperature=0.01)(features, features, maps)
    assert moved.shape == maps.shape
    torch.testing.assert_close(moved[..., 0, 7], torch.ones(1, 1))
    torch.testing.assert_close(moved[..., 7, 0], torch.zeros(1, 1), rtol=0, atol=1e-5)
    torch.testing.assert_close(moved.mean(), torch.tensor(0.25))


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_a_temperature_of_zero_is_an_error(temperature):
    with pytest.raises(ConfigError, match=r"^temperature=.*: must be above 0; try temperature=0\.07"):
        LabelPropagation(temperature)
