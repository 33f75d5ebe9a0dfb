"""Weights for other image sizes, patch sizes and channels, against closed forms and equal features."""

import pytest
import timm
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.models.adapt_weights import adapt_weights

VIT = {"patch_size": 8, "img_size": 32, "embed_dim": 24, "depth": 1, "num_heads": 2, "dynamic_img_size": True}
NO_CLASS_TOKEN = {"class_token": False, "global_pool": "avg", "fc_norm": False}
SWIN = {"depths": (1, 1), "embed_dim": 16, "num_heads": (1, 2), "strict_img_size": False}


def vit(seed: int = 0, **kwargs) -> torch.nn.Module:
    """Return a small ViT without dropout, whose tables are all random."""
    torch.manual_seed(seed)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT | kwargs).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    return model


def swin(**kwargs) -> torch.nn.Module:
    return timm.create_model("swin_tiny_patch4_window7_224", num_classes=0, **SWIN | kwargs).eval()


def load(model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> list[str]:
    """Load adapted weights into a model and return what was changed."""
    adapted = adapt_weights(tensors, model, "w.pth")
    model.load_state_dict(adapted.tensors)
    return adapted.changes


@pytest.mark.parametrize("build", [vit, swin, lambda: timm.create_model("test_resnet", num_classes=0)])
def test_weights_that_fit_stay_as_they_are(build):
    state = build().state_dict()
    adapted = adapt_weights(state, build(), "w.pth")
    assert adapted.changes == []
    assert adapted.tensors.keys() == state.keys()
    assert all(torch.equal(adapted.tensors[name], value) for name, value in state.items())


@pytest.mark.user_input(
    "weights",
    "a ViT of 32 px for images of 40 px",
    "positions are resampled 4x4 -> 5x5",
    source="https://github.com/facebookresearch/dinov2/issues/316",
)
def test_positions_are_resampled_and_the_row_of_the_class_token_stays():
    source, model = vit(), vit(1, img_size=40)
    with torch.no_grad():  # a table that is linear in y and x
        y, x = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
        source.pos_embed[0, 1:] = y.flatten()[:, None] + 10 * x.flatten()[:, None]
    assert load(model, source.state_dict()) == ["positions 4x4 -> 5x5"]
    assert torch.equal(model.pos_embed[0, 0], source.pos_embed[0, 0])
    table = model.pos_embed.detach()[0, 1:].reshape(5, 5, 24)
    torch.testing.assert_close(table[2, 2], torch.full((24,), 1.5 + 15), atol=1e-3, rtol=0)  # the middle
    # The ends of the interpolation depend on the border; y and x differ by a factor of 10 everywhere.
    differences = table[1:, 0] - table[:-1, 0], table[0, 1:] - table[0, :-1]
    assert differences[0].mean() == pytest.approx(3 / 4, rel=0.1)
    torch.testing.assert_close(10 * differences[0], differences[1])


def test_positions_of_a_grid_that_is_not_square_need_no_change_if_they_fit():
    source, model = vit(img_size=(24, 40)), vit(1, img_size=(24, 40))
    assert load(model, source.state_dict()) == []
    assert torch.equal(model.pos_embed, source.pos_embed)


def test_positions_of_an_unknown_grid_stay_for_the_error_of_the_match():
    source = vit(img_size=(24, 56))
    adapted = adapt_weights(source.state_dict(), vit(), "w.pth")
    assert adapted.tensors["pos_embed"].shape == (1, 1 + 3 * 7, 24)


@pytest.mark.user_input(
    "weights", "a ViT of patch size 8 for patch size 16", "patches are resampled (FlexiViT)"
)
def test_a_resampled_patch_has_the_token_of_the_smaller_patch():
    source, model = vit(), vit(1, patch_size=16, img_size=64)
    assert load(model, source.state_dict()) == ["patches 8x8 -> 16x16"]
    small = torch.randn(2, 3, 8, 8)
    large = torch.nn.functional.interpolate(small, size=(16, 16), mode="bicubic", antialias=True)
    torch.testing.assert_close(model.patch_embed(large), source.patch_embed(small), atol=1e-4, rtol=1e-3)


@pytest.mark.user_input(
    "weights",
    "RGB weights for gray images",
    "input channels are summed",
    source="https://github.com/matterport/Mask_RCNN/issues/2862",
)
@pytest.mark.parametrize("name", ["vit", "test_resnet"])
def test_a_gray_image_has_the_features_of_the_same_image_as_rgb(name):
    def build(channels: int) -> torch.nn.Module:
        return (
            vit(in_chans=channels)
            if name == "vit"
            else timm.create_model(name, num_classes=0, in_chans=channels).eval()
        )

    source, model = build(3), build(1)
    assert load(model, source.state_dict()) == ["channels 3 -> 1"]
    gray = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(gray), source(gray.expand(-1, 3, -1, -1)), atol=1e-5, rtol=1e-4)


@pytest.mark.user_input(
    "weights",
    "RGB weights for 5 channels",
    "channels are repeated and scaled by 3/5",
    source="https://github.com/matterport/Mask_RCNN/issues/1753",
)
@pytest.mark.user_input("weights", "weights of 1 channel for RGB images", "repeated and scaled by 1/3")
@pytest.mark.parametrize(("before", "after"), [(3, 5), (3, 2), (1, 3), (4, 3)])
def test_channels_are_repeated_in_order_and_scaled(before, after):
    source, model = vit(in_chans=before), vit(1, in_chans=after)
    assert load(model, source.state_dict()) == [f"channels {before} -> {after}"]
    old, new = source.patch_embed.proj.weight, model.patch_embed.proj.weight
    for channel in range(after):
        torch.testing.assert_close(new[:, channel], old[:, channel % before] * before / after)


def test_a_first_convolution_that_an_argument_replaced_stays_for_the_match():
    source, model = (timm.create_model("resnet18", num_classes=0, **kw) for kw in ({}, {"stem_type": "deep"}))
    adapted = adapt_weights(source.state_dict(), model, "w.pth")
    assert adapted.changes == []
    assert torch.equal(adapted.tensors["conv1.weight"], source.conv1.weight)


def test_channels_patches_and_positions_change_together():
    source = vit(patch_size=16, img_size=64)
    changes = load(vit(1, in_chans=1, patch_size=8, img_size=48), source.state_dict())
    assert changes == ["channels 3 -> 1", "patches 16x16 -> 8x8", "positions 4x4 -> 6x6"]


@pytest.mark.user_input("weights", "Swin of window 7 for window 4", "relative positions are resampled")
def test_relative_positions_are_resampled_and_computed_buffers_ignored():
    source, model = swin(), swin(window_size=4)
    state = source.state_dict()
    key = "layers.0.blocks.0.attn.relative_position_bias_table"
    state[key] = torch.full_like(state[key], 0.3)
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49)
    state["layers.0.blocks.0.attn_mask"] = torch.zeros(64, 49, 49)
    assert load(model, state) == ["relative positions 169 -> 49"]
    torch.testing.assert_close(model.state_dict()[key], torch.full((49, 1), 0.3))


@pytest.mark.user_input(
    "weights",
    "weights with a class token, a ViT without",
    "the class token is dropped",
    source="https://github.com/Beckschen/TransUNet/issues/13",
)
def test_a_model_without_a_class_token_drops_it_and_its_position():
    source, model = vit(), vit(1, **NO_CLASS_TOKEN)
    assert load(model, source.state_dict()) == ["class token dropped"]
    assert torch.equal(model.pos_embed, source.pos_embed[:, 1:])


@pytest.mark.user_input("weights", "weights without a class token (I-JEPA), a ViT with one", "one line")
def test_a_class_token_is_never_made_up():
    rule = r"^weights=w\.pth: these weights have no class token, but the backbone has one; "
    message = rule + r"try kwargs\.class_token=false kwargs\.global_pool=avg kwargs\.fc_norm=false$"
    with pytest.raises(ConfigError, match=message) as caught:
        adapt_weights(vit(**NO_CLASS_TOKEN).state_dict(), vit(), "w.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("registers", [0, 3])
@pytest.mark.parametrize("to_table", [True, False])
def test_tables_with_and_without_rows_of_prefix_tokens_give_equal_features(registers, to_table):
    tokens = {"reg_tokens": registers}
    source, model = (vit(no_embed_class=without, **tokens) for without in (to_table, not to_table))
    assert load(model, source.state_dict()) == []
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.forward_features(images), source.forward_features(images))
