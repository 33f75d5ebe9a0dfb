"""Token correlation against closed forms and a slow transcription."""

import math

import pytest
import torch
import torch.nn.functional as F

from cim_lightning.errors import ConfigError
from cim_lightning.models import token_correlation
from cim_lightning.models.token_correlation import TokenCorrelation
from cim_lightning.models.token_maps import token_maps

B, K, N, M, OUT = 3, 2, 4, 6, 5


def tokens(temperature: float = 0.1, weight: float = 1.0) -> TokenCorrelation:
    torch.manual_seed(0)
    return TokenCorrelation(7, hidden_dim=11, out_dim=OUT, temperature=temperature, weight=weight)


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return queries, keys and places; the places of a token are four patches with random weights."""
    torch.manual_seed(1)
    weights = torch.rand(B, K, N, M) * F.one_hot(torch.rand(B, K, N, M).topk(4).indices, M).sum(dim=-2)
    return torch.randn(B, K, N, OUT), torch.randn(B, M, OUT), weights / weights.sum(dim=-1, keepdim=True)


def slow_loss(queries: torch.Tensor, keys: torch.Tensor, places: torch.Tensor, temperature: float) -> float:
    """Return the cross-entropy between the places and the softmax over all keys of the batch."""
    total = 0.0
    for i in range(B):
        for j in range(K):
            for n in range(N):
                exponents = {
                    (other, m): torch.cosine_similarity(queries[i, j, n], keys[other, m], dim=0).item()
                    for other in range(B)
                    for m in range(M)
                }
                denominator = sum(math.exp(cosine / temperature) for cosine in exponents.values())
                for m in range(M):
                    probability = math.exp(exponents[i, m] / temperature) / denominator
                    total -= places[i, j, n, m].item() * math.log(probability)
    return total / (B * K * N)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_loss_is_a_cross_entropy_over_all_context_tokens_of_the_batch(inputs, temperature):
    expected = slow_loss(*inputs, temperature)
    assert tokens(temperature)(*inputs).item() == pytest.approx(expected, rel=1e-4)
    assert tokens(temperature, weight=0.5)(*inputs).item() == pytest.approx(0.5 * expected, rel=1e-4)


def test_identical_tokens_give_the_loss_of_a_uniform_guess(inputs):
    _, _, places = inputs
    one = torch.randn(OUT)
    loss = tokens()(one.expand(B, K, N, -1), one.expand(B, M, -1), places)
    assert loss.item() == pytest.approx(math.log(B * M), rel=1e-5)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_perfect_prediction_has_the_entropy_of_the_places(count):
    """Each query is in the middle between the keys of its places, and the keys are orthogonal."""
    places = torch.zeros(1, 1, M, M)
    for n in range(M):
        places[0, 0, n, torch.arange(n, n + count) % M] = 1 / count
    loss = TokenCorrelation(7, temperature=0.01)(places.clone(), torch.eye(M)[None], places)
    assert loss.item() == pytest.approx(math.log(count), abs=1e-5)


def test_the_loss_depends_on_directions_and_not_on_lengths(inputs):
    queries, keys, places = inputs
    scaled = tokens()(queries * torch.rand(B, K, N, 1), keys * 7, places)
    torch.testing.assert_close(scaled, tokens()(*inputs))


def test_chunks_give_the_same_loss_and_gradients(inputs, monkeypatch):
    def loss_and_gradients():
        queries, keys = (part.clone().requires_grad_() for part in inputs[:2])
        loss = tokens()(queries, keys, inputs[2])
        return loss, *torch.autograd.grad(loss, (queries, keys))

    whole = loss_and_gradients()
    monkeypatch.setattr(token_correlation, "MAX_SIMILARITIES", 100)  # of 24 x 18
    torch.testing.assert_close(loss_and_gradients(), whole)


def test_the_accuracy_counts_tokens_whose_best_patch_is_one_of_their_place():
    keys = torch.eye(3).repeat(2, 1, 1)
    queries = torch.tensor([[0.9, 0.2, 0], [0, 1, 0.5], [0.1, 0.2, 0.9], [0, 0, 1]]).repeat(2, 1, 1, 1)
    places = torch.tensor([[0.1, 0.9, 0], [0.5, 0, 0.5], [0.0, 0, 1], [0.5, 0.5, 0]]).repeat(2, 1, 1, 1)
    assert tokens().accuracy(queries, keys, places) == 0.5  # tokens 0 and 2


def test_the_accuracy_does_not_depend_on_the_other_images(inputs):
    single = [tokens().accuracy(*(part[i : i + 1] for part in inputs)) for i in range(B)]
    torch.testing.assert_close(tokens().accuracy(*inputs), torch.stack(single).mean())


def test_the_maps_are_those_of_the_probabilities_in_the_own_context(inputs):
    queries, keys, _ = inputs
    cosines = torch.cosine_similarity(queries[:, :, :, None], keys[:, None, None], dim=-1)
    expected = token_maps((cosines / 0.1).softmax(dim=-1), (2, 3), (8, 9))
    torch.testing.assert_close(tokens().maps(queries, keys, (2, 3), (8, 9)), expected, atol=1e-4, rtol=1e-4)


def test_gradients_reach_every_parameter_of_the_projector(inputs):
    model = tokens()
    _, keys, places = inputs
    model(model.projector(torch.randn(B, K, N, 7)), keys, places).backward()
    assert len(list(model.parameters())) == 4
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_an_invalid_temperature_gets_one_line():
    with pytest.raises(ConfigError, match=r"^temperature=0: must be above 0; try temperature=0\.1$"):
        TokenCorrelation(8, temperature=0)
