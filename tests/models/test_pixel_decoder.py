"""MAE's decoder: what goes where, by hand-set weights and by what it cannot know."""

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


def test_tokens_stand_where_they_were_seen_and_mask_tokens_elsewhere():
    model = decoder()
    model.embed = torch.nn.Linear(6, 8)
    model.blocks, model.norm, model.head = (torch.nn.Identity() for _ in range(3))
    tokens, visible = torch.randn(2, 1 + 2, 6), torch.tensor([[4, 1], [0, 5]])
    read = model(tokens, visible, (2, 3))
    positions = build_sincos2d_pos_embed([2, 3], 8)
    for i in range(2):
        for place in range(6):
            seen = visible[i].tolist()
            put = model.embed(tokens[i, 1 + seen.index(place)]) if place in seen else model.mask_token
            torch.testing.assert_close(read[i, place], put + positions[place])


def test_the_class_token_is_read_but_predicts_nothing():
    model, visible = decoder(), torch.tensor([[4, 1]])
    tokens = torch.randn(1, 3, 6)
    one = model(tokens, visible, (2, 3))
    assert one.shape == (1, 6, 12)
    tokens[:, 0] += 1
    assert not torch.allclose(one, model(tokens, visible, (2, 3)))


def test_the_published_sizes():
    model = PixelDecoder(dim=768, pixels=768, width=512, depth=8, num_heads=16, mlp_ratio=4.0)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(26e6, rel=0.02)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_heads": 3}, r"decoder\.num_heads=3"),
        ({"width": 10}, "decoder.width=10"),
        ({"depth": 0}, "depth=0"),
    ],
)
def test_a_mistake_gets_one_line(change, told):
    with pytest.raises(ConfigError, match=f"^[^\n]*{told}[^\n]*try[^\n]*$"):
        decoder(**change)
