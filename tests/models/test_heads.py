"""Contrastive head and DINO head against closed forms and slow transcriptions."""

import math

import pytest
import torch
import torch.nn.functional as F

from cim_lightning.errors import ConfigError
from cim_lightning.models.heads import ContrastiveHead, DINOHead


def head(temperature: float = 0.2) -> ContrastiveHead:
    torch.manual_seed(0)
    return ContrastiveHead(7, hidden_dim=11, out_dim=5, temperature=temperature, weight=1.0)


@pytest.mark.parametrize(("n", "m"), [(4, 4), (12, 4), (4, 12)])
def test_identical_keys_give_the_loss_of_a_uniform_guess(n, m):
    loss = head(0.3)(torch.randn(n, 7), torch.randn(5).expand(m, -1))
    assert loss.item() == pytest.approx(2 * 0.3 * math.log(m), rel=1e-5)


def slow_loss(
    queries: torch.Tensor, keys: torch.Tensor, pairs: list[tuple[int, int]], temperature: float
) -> float:
    """Return the mean InfoNCE loss over pairs (query, positive key), times twice the temperature."""
    total = 0.0
    for i, positive in pairs:
        cosines = [torch.cosine_similarity(queries[i], key, dim=0).item() / temperature for key in keys]
        total += math.log(sum(math.exp(c) for c in cosines)) - cosines[positive]
    return 2 * temperature * total / len(pairs)


@pytest.mark.parametrize(("n", "m"), [(4, 4), (12, 4), (4, 12)])
def test_the_loss_is_infonce_against_the_other_images(n, m):
    model = head().eval()
    online, keys = torch.randn(n, 7), torch.randn(m, 5)
    queries = model.predictor(model.projector(online))
    k = max(n, m) // min(n, m)  # exemplars per image, in consecutive rows
    pairs = [(i, i // k) if n > m else (i // k, i) for i in range(max(n, m))]
    assert model(online, keys).item() == pytest.approx(slow_loss(queries, keys, pairs, 0.2), rel=1e-4)


def test_the_loss_depends_on_directions_and_not_on_lengths():
    model = head().eval()
    online, keys = torch.randn(4, 7), torch.randn(4, 5)
    loss = model(online, keys)
    torch.testing.assert_close(model(online, keys * torch.tensor([[2.0], [0.1], [30], [5]])), loss)
    assert not torch.isclose(model(online, keys.flip(0)), loss)


def test_the_loss_of_equal_vectors_is_near_0_at_a_low_temperature():
    model = head(0.01)
    online = torch.randn(6, 7)
    keys = F.normalize(model.predictor(model.projector(online)), dim=-1).detach()
    assert model(online, keys) < 1e-3


def test_the_mlps_have_the_layers_of_moco_v3():
    model = head()
    widths = [
        [layer.out_features for layer in mlp if isinstance(layer, torch.nn.Linear)]
        for mlp in (model.projector, model.predictor)
    ]
    assert widths == [[11, 11, 5], [11, 5]]
    assert all(layer.bias is None for layer in model.modules() if isinstance(layer, torch.nn.Linear))
    last = model.projector[-1], model.predictor[-1]
    assert all(isinstance(layer, torch.nn.BatchNorm1d) and not layer.affine for layer in last)


def test_gradients_reach_every_parameter_of_the_contrastive_head():
    model = head()
    model(torch.randn(6, 7), torch.randn(6, 5)).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_dino_scores_are_cosines_of_the_mlp_output_to_each_prototype():
    torch.manual_seed(0)
    head = DINOHead(5, hidden_dim=7, bottleneck_dim=3, out_dim=11)
    features = torch.randn(4, 5)
    scores = head(features)
    bottleneck = head.mlp(features)
    for i in range(4):
        for j in range(11):
            cosine = torch.cosine_similarity(bottleneck[i], head.prototypes[j], dim=0)
            torch.testing.assert_close(scores[i, j], cosine)
    widths = [layer.out_features for layer in head.mlp if isinstance(layer, torch.nn.Linear)]
    assert widths == [7, 7, 3]


def test_an_invalid_size_of_the_dino_head_gets_one_line():
    with pytest.raises(ConfigError, match=r"^out_dim=0: must be at least 1; try out_dim=1$"):
        DINOHead(5, 7, 3, 0)
