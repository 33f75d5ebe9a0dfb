"""Decoder of MAE: token order, prefix tokens and sizes."""

import pytest
import torch
from timm.layers import build_sincos2d_pos_embed

from cim_lightning.errors import ConfigError
from cim_lightning.models.pixel_decoder import PixelDecoder


def decoder(**changes) -> PixelDecoder:
    torch.manual_seed(0)
    return PixelDecoder(
        **{"dim": 6, "pixels": 12, "width": 8, "depth": 1, "num_heads": 2, "mlp_ratio": 2.0} | changes
    )


def test_tokens_are_at_their_patches_and_mask_tokens_elsewhere():
    model = decoder()
    model.embed = torch.nn.Linear(6, 8)
    model.blocks, model.norm, model.head = (torch.nn.Identity() for _ in range(3))
    tokens, visible = torch.randn(2, 1 + 2, 6), torch.tensor([[4, 1], [0, 5]])
    output = model(tokens, visible, (2, 3))
    positions = build_sincos2d_pos_embed([2, 3], 8)
    for i in range(2):
        indices = visible[i].tolist()
        for patch in range(6):
            token = model.mask_token
            if patch in indices:
                token = model.embed(tokens[i, 1 + indices.index(patch)])
            torch.testing.assert_close(output[i, patch], token + positions[patch])


def test_the_class_token_is_an_input_but_not_an_output():
    model, visible = decoder(), torch.tensor([[4, 1]])
    tokens = torch.randn(1, 3, 6)
    output = model(tokens, visible, (2, 3))
    assert output.shape == (1, 6, 12)
    tokens[:, 0] += 1
    assert not torch.allclose(output, model(tokens, visible, (2, 3)))


def test_the_published_number_of_parameters():
    model = PixelDecoder(dim=768, pixels=768, width=512, depth=8, num_heads=16, mlp_ratio=4.0)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(26e6, rel=0.02)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"num_heads": 3}, "num_heads=3: must divide width=8"),
        ({"width": 10}, "width=10: must be a multiple of 4"),
        ({"depth": 0}, "depth=0: "),
        ({"mlp_ratio": 0.1}, "mlp_ratio=0.1: "),
    ],
)
def test_a_mistake_gets_one_line(change, expected):
    with pytest.raises(ConfigError, match=f"^{expected}[^\n]*try[^\n]*$"):
        decoder(**change)
