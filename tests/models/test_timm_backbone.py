"""Features of every family against timm, and the initialization and positions of the paper's recipe."""

import math
import re
from unittest import mock

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.timm_backbone import TimmBackbone

# family: (timm's model name, arguments of a small model, stride of the grid)
FAMILIES = {
    "vit": ("vit_tiny_patch16_224", {"depth": 1, "dynamic_img_size": True}, 16),
    "resnet": ("resnet18", {}, 32),
    "convnext": ("convnext_tiny", {"depths": (1, 1, 1, 1), "dims": (16, 24, 32, 40)}, 32),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"depths": (1, 1, 1, 1), "embed_dim": 16, "num_heads": (1, 2, 4, 4), "strict_img_size": False},
        32,
    ),
}
PLAIN = {"positions": "timm", "freeze_patch_embed": False, "init": "timm"}
VIT = {
    "dynamic_img_size": True,
    "depth": 1,
    "embed_dim": 24,
    "num_heads": 2,
    "patch_size": 8,
    "img_size": (24, 40),
}


def vit(**changes) -> Backbone:
    return TimmBackbone("vit_tiny_patch16_224", **{"kwargs": VIT} | PLAIN | changes)


def cell(family: str, tokens: torch.Tensor, width: int, y: int, x: int) -> torch.Tensor:
    """Return the output of timm's model at position (y, x)."""
    if family == "vit":
        return tokens[:, 1 + y * width + x]
    return tokens[:, y, x] if family == "swin" else tokens[:, :, y, x]


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("size", [(64, 64), (64, 128)])
@pytest.mark.parametrize("family", FAMILIES)
def test_features_match_timm_at_any_size_and_channel_count(family, size, channels):
    name, kwargs, stride = FAMILIES[family]
    scale = {"mean": [0.5] * channels, "std": [0.5] * channels}
    backbone = TimmBackbone(name, kwargs, in_channels=channels, **PLAIN, **scale).eval()
    model = timm.create_model(name, num_classes=0, in_chans=channels, **kwargs).eval()
    model.load_state_dict(backbone.model.state_dict())
    images = torch.randn(2, channels, *size)
    with torch.no_grad():
        features, tokens, pooled = backbone(images), model.forward_features(images), model(images)
    h, w = size[0] // stride, size[1] // stride
    assert features.pooled.shape == (2, backbone.dim)
    assert features.grid.shape == (2, backbone.dim, h, w)
    assert torch.equal(features.pooled, pooled)
    assert pooled.std() > 0
    for y in range(h):
        for x in range(w):
            assert torch.equal(features.grid[:, :, y, x], cell(family, tokens, w, y, x))


def test_pooled_is_the_class_token_of_a_vit_and_the_mean_of_a_resnet():
    images = torch.randn(2, 3, 64, 64)
    backbone = TimmBackbone("vit_tiny_patch16_224", FAMILIES["vit"][1], **PLAIN).eval()
    assert torch.equal(backbone(images).pooled, backbone.model.forward_features(images)[:, 0])
    features = TimmBackbone("resnet18", {}, **PLAIN).eval()(images)
    torch.testing.assert_close(features.pooled, features.grid.mean(dim=(2, 3)))


def test_without_a_class_token_all_tokens_are_in_the_grid():
    kwargs = VIT | {"class_token": False, "global_pool": "avg"}
    features = TimmBackbone("vit_tiny_patch16_224", kwargs, **PLAIN)(torch.randn(1, 3, 24, 40))
    assert features.grid.shape == (1, 24, 3, 5)


def test_a_head_that_changes_the_width_is_skipped():
    features = TimmBackbone("mobilenetv3_small_050", {}, **PLAIN).eval()(torch.randn(1, 3, 64, 64))
    torch.testing.assert_close(features.pooled, features.grid.mean(dim=(2, 3)))


def test_tokens_without_a_grid_are_an_error():
    backbone = TimmBackbone("mixer_s32_224", {}, **PLAIN)
    with pytest.raises(ConfigError, match=r"^name=mixer_s32_224: [^\n]*try name=vit_small_patch16_224$"):
        backbone(torch.randn(1, 3, 224, 224))


@pytest.mark.parametrize("error", [AssertionError(), TypeError("unexpected\nsecond line")])
def test_arguments_that_timm_rejects_get_one_line(error):
    reason = r"\((AssertionError|unexpected)\)"
    message = rf"^kwargs={{}}: timm cannot create resnet18 with these arguments {reason}; [^\n]*$"
    with (
        mock.patch.object(timm, "create_model", side_effect=error),
        pytest.raises(ConfigError, match=message),
    ):
        TimmBackbone("resnet18", {}, **PLAIN)


def sincos_table(h: int, w: int, dim: int) -> torch.Tensor:
    """Sines of y and x, then their cosines, at dim / 4 frequencies from 1 towards 1 / 10000."""
    rows = []
    for y in range(h):
        for x in range(w):
            angles = [position * 10000 ** (-4 * i / dim) for position in (y, x) for i in range(dim // 4)]
            rows.append([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
    return torch.tensor(rows)


@pytest.mark.parametrize(("side", "expected"), [(4, 0.11), (10, 0.02)])
def test_resampled_positions_are_close_to_those_of_the_released_code(side, expected):
    """It resamples without antialiasing, by a factor that is a little above the ratio of the sides."""
    table = sincos_table(14, 14, 384)[None]
    ours = resample_abs_pos_embed(table, [side, side], [14, 14], num_prefix_tokens=0)
    grid, factor = table.unflatten(1, (14, 14)).movedim(-1, 1), (side + 0.1) / 14
    released = torch.nn.functional.interpolate(grid, scale_factor=(factor, factor), mode="bicubic")
    released = released.flatten(2).mT
    difference = (ours - released).square().mean().sqrt() / released.square().mean().sqrt()
    assert difference.item() == pytest.approx(expected, rel=0.1)


def test_sincos_positions_are_fixed_and_zero_for_the_class_token():
    table = vit(positions="sincos").model.pos_embed
    assert table.shape == (1, 16, 24)
    assert not table[0, 0].any()
    torch.testing.assert_close(table[0, 1:], sincos_table(3, 5, 24), atol=1e-6, rtol=0)
    assert not table.requires_grad
    assert vit().model.pos_embed.requires_grad


def test_a_frozen_patch_embedding_gets_no_gradient():
    backbone = vit(freeze_patch_embed=True, positions="sincos")
    features = backbone(torch.randn(2, 3, 24, 40))
    (features.pooled.square().sum() + features.grid.square().sum() + features.grid[:, 0].sum()).backward()
    no_gradient = {name for name, parameter in backbone.model.named_parameters() if parameter.grad is None}
    assert no_gradient == {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}


def test_xavier_bounds_linear_layers_and_patch_embedding_and_zeroes_biases():
    torch.manual_seed(0)
    model = vit(init="xavier").model
    block = model.blocks[0]
    for weight, fan_in, fan_out in (
        (block.attn.qkv.weight, 24, 72),
        (block.attn.proj.weight, 24, 24),
        (block.mlp.fc1.weight, 24, 96),
        (model.patch_embed.proj.weight, 3 * 8 * 8, 24),
    ):
        bound = math.sqrt(6 / (fan_in + fan_out))
        assert 0.97 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    for bias in (block.attn.qkv.bias, block.mlp.fc2.bias, model.patch_embed.proj.bias):
        assert not bias.any()
    assert not torch.equal(model.patch_embed.proj.weight[0], model.patch_embed.proj.weight[1])


def test_xavier_draws_the_class_token_with_deviation_0_02():
    torch.manual_seed(0)
    kwargs = {"depth": 1, "embed_dim": 1024, "num_heads": 2, "patch_size": 8, "img_size": 8}
    token = TimmBackbone("vit_tiny_patch16_224", kwargs, **PLAIN | {"init": "xavier"}).model.cls_token
    assert token.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("family", ["resnet", "convnext", "swin"])
def test_xavier_initializes_other_families(family):
    name, kwargs, _ = FAMILIES[family]
    model = TimmBackbone(name, kwargs, **PLAIN | {"init": "xavier"}).model
    linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert all(not linear.bias.any() for linear in linears if linear.bias is not None)


def test_timm_kwargs_rebuild_the_architecture():
    backbone = vit(in_channels=4, mean=[0.5] * 4, std=[0.5] * 4)
    assert backbone.timm_kwargs == {"model_name": "vit_tiny_patch16_224", "in_chans": 4, **VIT}
    timm.create_model(**backbone.timm_kwargs, num_classes=0).load_state_dict(backbone.model.state_dict())


@pytest.mark.parametrize(
    ("name", "changes", "expected", "suggestion"),
    [
        ("vit_tinny_patch16_224", {}, "name=vit_tinny_patch16_224", "did you mean vit_tiny_patch16_224?"),
        ("resnet18", {"positions": "sincos"}, "positions=sincos", "try positions=timm"),
        ("resnet18", {"freeze_patch_embed": True}, "freeze_patch_embed=true", "try freeze_patch_embed=false"),
        ("resnet18", {"positions": "learned"}, "positions=learned", "timm, sincos"),
        ("resnet18", {"init": "zeros"}, "init=zeros", "timm, xavier"),
    ],
)
def test_a_mistake_gets_one_line_with_a_suggestion(name, changes, expected, suggestion):
    with pytest.raises(ConfigError, match=f"^{re.escape(expected)}: [^\n]*{re.escape(suggestion)}[^\n]*$"):
        TimmBackbone(name, {}, **PLAIN | changes)


def test_an_image_size_that_is_not_a_multiple_of_the_patch_size_gets_one_line():
    backbone = vit()
    with pytest.raises(ConfigError, match=r"^size=44: must be whole patches of 8 pixels .*; try size=48$"):
        backbone(torch.zeros(1, 3, 24, 44))
    with pytest.raises(ConfigError, match=r"^view_size=3: .*; try view_size=8$"):
        backbone.check_size((3, 3), "view_size")
    with pytest.raises(ConfigError, match=r"^in_channels=3: the images have 4 channels; try in_channels=4$"):
        backbone(torch.zeros(1, 4, 24, 40))


def test_an_image_that_is_too_small_gets_one_line():
    backbone = TimmBackbone("convnext_atto", {"depths": [1] * 4, "dims": [8] * 4}, **PLAIN)
    assert backbone(torch.zeros(1, 3, 32, 32)).grid.shape == (1, 8, 1, 1)
    with pytest.raises(ConfigError, match=r"^size=24: too small for convnext_atto; try size=32$"):
        backbone(torch.zeros(1, 3, 40, 24))


def test_mean_and_std_have_defaults_for_gray_and_rgb_only():
    small = VIT | {"depth": 1}
    gray = TimmBackbone("vit_tiny_patch16_224", small, in_channels=1)
    assert gray.normalization == {"mean": [0.449], "std": [0.226]}  # timm's, the mean over ImageNet's
    rgb = TimmBackbone("vit_tiny_patch16_224", small)
    assert rgb.normalization == {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    with pytest.raises(
        ConfigError, match=r"^mean=null: is required for 2 channels; measure it with cim-prep"
    ):
        TimmBackbone("vit_tiny_patch16_224", small, in_channels=2)
    with pytest.raises(ConfigError, match=r"^std=null: is required for 2 channels; measure it with cim-prep"):
        TimmBackbone("vit_tiny_patch16_224", small, in_channels=2, mean=[0.5, 0.5])


@pytest.mark.user_input("value", "backbone.kwargs.in_chans=4", "refused: try data.channels=4")
def test_channels_are_no_argument_of_timm():
    message = r"^in_chans=4: follows from the number of channels of the images; try in_channels=4$"
    with pytest.raises(ConfigError, match=message):
        TimmBackbone("vit_tiny_patch16_224", VIT | {"in_chans": 4})
