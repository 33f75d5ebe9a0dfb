"""Decoders that start at a map: their first predictions and gradients, and their checkpoints."""

import functools

import pytest
import torch
import torch.nn.functional as F

from cim_lightning.cropping.correlation_metrics import estimate_mean_map_baseline, mean_map_logits
from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.image_random import ImageRandom, image_seeds
from cim_lightning.models.backbone import Features
from cim_lightning.models.decoder import ConvolutionDecoder, CorrelationDecoder

DIM, B, K, SIZE = 5, 2, 3, (24, 24)
DECODERS = {
    "cross_attention": functools.partial(CorrelationDecoder, DIM, 8, 1, 2, 2.0),
    "convolution": functools.partial(ConvolutionDecoder, DIM, 8, 1, 2.0),
}


@functools.cache
def cropping() -> ExemplarCropper:
    return ExemplarCropper(K, context_size=24, exemplar_size=8, appearance=None)


def features(n: int, grid: tuple[int, int], seed: int) -> Features:
    generator = torch.Generator().manual_seed(seed)
    return Features(torch.randn(n, DIM, generator=generator), torch.randn(n, DIM, *grid, generator=generator))


def predict(decoder: torch.nn.Module, seed: int = 0) -> torch.Tensor:
    return decoder(features(B, (3, 3), seed), features(B * K, (2, 2), seed + 1), SIZE)


@pytest.mark.parametrize("name", DECODERS)
def test_the_first_prediction_is_the_prior_whatever_the_input(name):
    prior = mean_map_logits(cropping())
    logits = predict(DECODERS[name](prior=prior))
    assert torch.equal(logits, prior.expand(B, K, *SIZE))


def test_the_mean_map_has_the_loss_of_the_baseline_and_skill_0():
    baseline, prior = estimate_mean_map_baseline(cropping()), mean_map_logits(cropping())
    share = prior.sigmoid()
    loss = F.binary_cross_entropy_with_logits(prior, share)  # the mean over the boxes of the estimate
    assert baseline.skill(loss).item() == pytest.approx(0, abs=1e-4)
    random = ImageRandom(image_seeds(7, 4000))
    maps = cropping().boxes.sample(K, (24, 24), random).rasterize(24, 24).float()
    torch.testing.assert_close(maps.mean(dim=(0, 1)), share, atol=0.03, rtol=0)
    loss = F.binary_cross_entropy_with_logits(prior.expand_as(maps), maps)
    assert baseline.skill(loss).item() == pytest.approx(0, abs=0.015)


def test_the_logits_are_finite_where_no_box_is():
    never = ExemplarCropper(1, (0.01, 0.01), (1, 1), 45, context_size=24, exemplar_size=8, appearance=None)
    assert mean_map_logits(never).isfinite().all()


def test_the_prior_fits_any_size_of_the_maps():
    prior = torch.arange(4.0).reshape(2, 2)
    decoder = DECODERS["cross_attention"](prior=prior)
    logits = decoder(features(1, (3, 3), 0), features(1, (2, 2), 1), (4, 4))[0, 0]
    # Pixel centers at 1/8, 3/8, ... of the side; the centers of the prior's cells are at 1/4 and 3/4.
    x = torch.tensor([0, 0.25, 0.75, 1])
    torch.testing.assert_close(logits, 2 * x[:, None] + x)


@pytest.mark.parametrize("name", DECODERS)
def test_the_first_step_trains_the_last_layer_and_the_next_one_all_others(name):
    torch.manual_seed(0)
    decoder = DECODERS[name](prior=torch.zeros(2, 2))
    optimizer = torch.optim.SGD(decoder.parameters(), 0.1)
    for trained in (False, True):
        optimizer.zero_grad()
        predict(decoder)[:, :, :12].sum().backward()
        assert all(p.grad is not None for p in decoder.parameters())  # which DDP requires
        assert any(p.grad.any() for n, p in decoder.named_parameters() if n.startswith("head"))
        assert decoder.embed.weight.grad.any() == trained
        optimizer.step()


@pytest.mark.parametrize("name", DECODERS)
def test_a_checkpoint_has_the_prior_and_one_of_a_decoder_without_is_unchanged(name):
    saved = DECODERS[name](prior=torch.ones(2, 2)).state_dict()
    restored = DECODERS[name](prior=torch.zeros(2, 2))
    restored.load_state_dict(saved)
    torch.testing.assert_close(predict(restored), torch.ones(B, K, *SIZE))
    assert saved.keys() - DECODERS[name]().state_dict().keys() == {"prior.logits"}
