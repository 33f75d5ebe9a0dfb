"""Extraction leaves a backbone as it was, and collapse measures have their closed forms."""

import math

import pytest
import torch

from cim_lightning.evaluation.features import effective_rank, extract, spread
from cim_lightning.models.backbone import Backbone

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> Backbone:
    """With BatchNorm, whose statistics training mode would move."""
    settings = {"in_channels": 3, "positions": "timm", "freeze_patch_embed": False, "init": "timm"}
    return Backbone("resnet18", {"channels": (4, 8, 8, 16)}, **settings)


@pytest.fixture
def batches() -> list[tuple[torch.Tensor, torch.Tensor, int]]:
    generator = torch.Generator().manual_seed(0)
    views = torch.randint(0, 256, (5, 3, 64, 96), dtype=torch.uint8, generator=generator)
    labels = torch.tensor([3, -1, 0, 1, 2])
    return [(views[:3], labels[:3], 0), (views[3:], labels[3:], 1)]


def half(images: torch.Tensor) -> torch.Tensor:
    return images - 0.5


@pytest.mark.parametrize("training", [True, False])
def test_mode_weights_and_statistics_are_left_bit_identical(network, batches, training):
    network.train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    extract(network, batches, half, CPU)
    after = network.state_dict()
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {module.training for module in network.modules()} == {training}
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_features_are_those_of_evaluation_mode_in_the_batches_order(network, batches):
    found = extract(network.train(), batches, half, CPU)
    network.eval()
    with torch.no_grad():
        pooled, grid = network(torch.cat([views for views, _, _ in batches]) / 255 - 0.5)
    torch.testing.assert_close(found.pooled, pooled, rtol=1e-4, atol=1e-5)
    assert grid.shape[2:] == (2, 3)
    torch.testing.assert_close(found.mean, grid.flatten(2).sum(dim=2) / 6, rtol=1e-4, atol=1e-5)
    assert found.labels.tolist() == [3, -1, 0, 1, 2]


def test_identical_features_have_no_spread_and_opposite_ones_have_the_most():
    assert spread(torch.randn(1, 7).expand(9, -1)) == pytest.approx(0, abs=1e-6)
    ends = torch.tensor([[3.0], [-5.0]])  # of unit length: 1 and -1, whose deviation is sqrt(2)
    assert spread(ends) == pytest.approx(math.sqrt(2))


def test_spread_is_of_directions_not_of_lengths():
    features = torch.randn(20, 7, generator=torch.Generator().manual_seed(0))
    assert spread(features * torch.linspace(1, 9, 20)[:, None]) == pytest.approx(spread(features))
    assert spread(torch.ones(3, 7) * torch.tensor([[1.0], [2.0], [3.0]])) == pytest.approx(0, abs=1e-6)


def test_the_effective_rank_of_a_line_is_one():
    along = torch.linspace(-1, 3, 13)[:, None] * torch.randn(1, 5) + torch.randn(1, 5)
    assert effective_rank(along) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("d", [2, 3, 5])
def test_the_effective_rank_of_equal_orthogonal_columns_is_their_number(d):
    columns = torch.cat((torch.eye(d), -torch.eye(d))) * 3 + 2  # centred, they are orthogonal
    assert effective_rank(columns) == pytest.approx(d, rel=1e-5)


def test_the_effective_rank_of_unequal_columns_is_the_exponential_of_the_entropy_of_their_shares():
    columns = torch.cat((torch.diag(torch.tensor([3.0, 1.0])), -torch.diag(torch.tensor([3.0, 1.0]))))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(columns) == pytest.approx(math.exp(entropy), rel=1e-5)


def test_the_effective_rank_of_collapsed_features_is_finite():
    assert effective_rank(torch.ones(4, 3)) == pytest.approx(1)
