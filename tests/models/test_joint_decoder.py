"""Joint decoder: a slow transcription, and which exemplars a map depends on."""

import pytest
import torch
from timm.layers import build_sincos2d_pos_embed

from cim_lightning.models.backbone import Features
from cim_lightning.models.decoder import CorrelationDecoder
from cim_lightning.models.joint_decoder import JointDecoder

B, K, DIM, WIDTH = 2, 3, 6, 8


def decoder(num_heads: int = 2, **changes) -> JointDecoder:
    torch.manual_seed(0)
    return JointDecoder(DIM, width=WIDTH, num_heads=num_heads, mlp_ratio=2.0, **changes)


@pytest.fixture
def features() -> tuple[Features, Features]:
    """Return features of contexts and of their exemplars."""
    torch.manual_seed(1)
    context = Features(torch.randn(B, DIM), torch.randn(B, DIM, 5, 4))
    return context, Features(torch.randn(B * K, DIM), torch.randn(B * K, DIM, 2, 2))


def test_each_exemplar_token_attends_to_the_tokens_of_all_exemplars_of_its_image(features):
    model, exemplars = decoder(num_heads=1), features[1]
    block, codes = model.exchange, build_sincos2d_pos_embed([1, K], WIDTH)
    result = model.embed_exemplars(exemplars, B)
    assert len({tuple(code) for code in codes.tolist()}) == K
    for i in range(B):
        tokens = []
        for j in range(K):
            row = i * K + j
            own = torch.cat((exemplars.pooled[row][None], exemplars.grid[row].flatten(1).T))
            tokens += [model.embed(token) + codes[j] for token in own]
        normed = [block.norm1(token) for token in tokens]
        keys = [block.key_value(token)[:WIDTH] for token in normed]
        values = [block.key_value(token)[WIDTH:] for token in normed]
        for position, token in enumerate(tokens):
            query = block.query(normed[position])
            weights = torch.stack([query @ key / WIDTH**0.5 for key in keys]).softmax(dim=0)
            token = token + block.out(sum(w * value for w, value in zip(weights, values, strict=True)))
            token = token + block.mlp(block.norm2(token))
            torch.testing.assert_close(result[i].flatten(0, 1)[position], token, atol=1e-5, rtol=1e-5)


def test_a_map_depends_on_all_exemplars_of_its_image_and_on_no_other_image(features):
    context, exemplars = features
    size = (20, 16)
    changed = exemplars.grid.clone()
    changed[1] += 1  # the second exemplar of the first image
    maps = decoder()(context, exemplars, size)
    assert maps.shape == (B, K, *size)
    moved = decoder()(context, exemplars._replace(grid=changed), size) - maps
    assert all(moved[0, j].abs().max() > 1e-3 for j in range(K))
    torch.testing.assert_close(moved[1], torch.zeros_like(moved[1]), atol=1e-6, rtol=0)


def test_without_the_exchange_it_is_the_decoder_of_the_paper(features):
    model, context, exemplars = decoder(), *features
    paper = CorrelationDecoder(DIM, width=WIDTH, num_heads=2, mlp_ratio=2.0)
    paper.load_state_dict({key: value for key, value in model.state_dict().items() if "exchange" not in key})
    model.embed_exemplars = paper.embed_exemplars
    torch.testing.assert_close(model(context, exemplars, (9, 9)), paper(context, exemplars, (9, 9)))


@pytest.mark.parametrize("k", [1, K])
def test_gradients_reach_every_parameter(features, k):
    model, (context, exemplars) = decoder(), features
    some = Features(exemplars.pooled[: B * k], exemplars.grid[: B * k])
    model(context, some, (10, 8)).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())
