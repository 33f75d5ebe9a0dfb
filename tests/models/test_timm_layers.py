"""Levels, blocks, parameter groups and drop path of timm's families."""

import pytest
import torch
from timm.layers import DropPath

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone, Level
from cim_lightning.models.timm_backbone import TimmBackbone

VIT = {"dynamic_img_size": True, "depth": 3, "embed_dim": 24, "num_heads": 2, "patch_size": 8}
SWIN = {"depths": (1, 1, 2, 1), "embed_dim": 16, "num_heads": (1, 2, 4, 4), "strict_img_size": False}
FAMILIES = {
    "vit": ("vit_tiny_patch16_224", VIT),
    "resnet": ("resnet18", {}),
    "convnext": ("convnext_tiny", {"depths": (1, 2, 1, 1), "dims": (16, 24, 32, 40)}),
    "swin": ("swin_tiny_patch4_window7_224", SWIN),
}


def make(family: str, **changes) -> TimmBackbone:
    torch.manual_seed(0)
    name, kwargs = FAMILIES[family]
    return TimmBackbone(name, kwargs | changes)


def vit(**scale) -> TimmBackbone:
    return TimmBackbone("vit_tiny_patch16_224", VIT, **scale)


@pytest.mark.parametrize(
    ("family", "levels", "patch_size", "size_multiple"),
    [
        ("vit", [(24, 8)] * 3, 8, 8),
        ("resnet", [(64, 2), (64, 4), (128, 8), (256, 16), (512, 32)], 32, 1),
        ("convnext", [(16, 4), (24, 8), (32, 16), (40, 32)], 32, 1),
        ("swin", [(16, 4), (32, 8), (64, 16), (128, 32)], 32, 4),
    ],
)
def test_levels_have_their_width_and_stride(family, levels, patch_size, size_multiple):
    backbone = make(family).eval()
    assert backbone.levels == [Level(*level) for level in levels]
    assert (backbone.patch_size, backbone.size_multiple) == (patch_size, size_multiple)
    found = backbone.intermediates(torch.randn(2, 3, 64, 96), range(len(levels)))
    shapes = [(2, width, 64 // stride, 96 // stride) for width, stride in levels]
    assert [tuple(features.grid.shape) for features in found] == shapes


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_level_with_norm_is_the_output(family):
    backbone, images = make(family).eval(), torch.randn(2, 3, 64, 96)
    (last,), output = backbone.intermediates(images, [-1], norm=True), backbone(images)
    torch.testing.assert_close(last.grid, output.grid)
    if family != "convnext":  # it has a norm after the pooling
        torch.testing.assert_close(last.pooled, output.pooled)


@pytest.mark.parametrize("norm", [False, True])
def test_intermediates_of_a_vit_equal_a_forward_pass_through_its_blocks(norm):
    backbone, images = make("vit").eval(), torch.randn(2, 3, 24, 40)
    model = backbone.timm_model()
    tokens, after = model._pos_embed(model.patch_embed(images)), []
    for block in backbone.blocks():
        tokens = block(tokens)
        after.append(model.norm(tokens) if norm else tokens)
    found = backbone.intermediates(images, [1, -1, 0, 1], norm=norm)
    for features, expected in zip(found, (after[1], after[2], after[0], after[1]), strict=True):
        torch.testing.assert_close(features.pooled, expected[:, 0])
        grid = expected[:, 1:].transpose(1, 2).unflatten(2, (3, 5))
        torch.testing.assert_close(features.grid, grid)


def test_intermediates_check_the_images():
    with pytest.raises(ConfigError, match=r"^size=20: must be whole patches of 8"):
        make("vit").intermediates(torch.zeros(1, 3, 16, 20), [0])
    with pytest.raises(IndexError):
        make("vit").intermediates(torch.zeros(1, 3, 16, 16), [3])


def test_without_timms_intermediates_the_output_is_the_only_level():
    backbone = make("resnet").eval()
    backbone.timm_model().feature_info = None
    images = torch.randn(1, 3, 64, 64)
    assert backbone.levels == [Level(512, 32)]
    (features,) = backbone.intermediates(images, [0])
    assert torch.equal(features.grid, backbone(images).grid)


def test_blocks_from_shallow_to_deep():
    model = (backbone := make("vit")).timm_model()
    assert backbone.blocks() == [model.blocks[0], model.blocks[1], model.blocks[2]]
    model = (backbone := make("resnet")).timm_model()
    layers = (model.layer1, model.layer2, model.layer3, model.layer4)
    assert backbone.blocks() == [layer[i] for layer in layers for i in (0, 1)]
    for family, stages in (("convnext", "stages"), ("swin", "layers")):
        backbone = make(family)
        expected = [block for s in getattr(backbone.timm_model(), stages) for block in s.blocks]
        assert (len(expected), backbone.blocks()) == (5, expected)
    model = (backbone := TimmBackbone("efficientnet_b0")).timm_model()
    assert backbone.blocks() == [block for stage in model.blocks for block in stage]


def test_prefix_tokens_and_patch_embedding():
    backbone = make("vit", reg_tokens=2)
    assert (backbone.num_prefix_tokens, make("resnet").num_prefix_tokens) == (3, 0)
    assert backbone.patch_embed is backbone.timm_model().patch_embed
    assert make("resnet").patch_embed is None
    assert [make(family).skips_patches for family in FAMILIES] == [True, False, False, False]


def test_learning_rates_fall_with_the_depth():
    backbone = make("vit")
    backbone.timm_model().patch_embed.requires_grad_(False)
    groups = backbone.param_groups(lr=16.0, weight_decay=0.1, layer_decay=0.5)
    names = {id(p): name for name, p in backbone.timm_model().named_parameters() if p.requires_grad}
    values = {names.pop(id(p)): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert not names  # each parameter once
    expected = {
        "norm": 8.0,
        "blocks.2": 8.0,
        "blocks.1": 4.0,
        "blocks.0": 2.0,
        "cls_token": 1.0,
        "pos_embed": 1.0,
    }
    for name, (lr, decay) in values.items():
        (layer,) = [layer for layer in expected if name == layer or name.startswith(f"{layer}.")]
        matrix = name.endswith(("qkv.weight", "proj.weight", "fc1.weight", "fc2.weight"))
        assert (lr, decay) == (expected[layer], 0.1 if matrix else 0), name
    assert {group["lr"] for group in backbone.param_groups(3.0, 0.1)} == {3.0}


def test_tables_of_relative_positions_have_no_weight_decay():
    backbone = make("swin")
    groups = backbone.param_groups(lr=1.0, weight_decay=0.1)
    decayed = {id(p) for g in groups if g["weight_decay"] for p in g["params"]}
    tables = [p for name, p in backbone.named_parameters() if name.endswith("position_bias_table")]
    assert len(tables) == 5
    assert not decayed & set(map(id, tables))


def rates(backbone: Backbone, layers: list[str]) -> dict[str, set[float]]:
    """Return the drop probabilities of each layer."""
    found = {layer: set() for layer in layers}
    for name, module in backbone.timm_model().named_modules():
        if isinstance(module, DropPath):
            layer = next(layer for layer in layers if f"{name}.".startswith(f"{layer}."))
            found[layer].add(round(module.drop_prob, 6))
    return found


def test_drop_path_rises_through_every_block_of_a_vit() -> None:
    dropping = vit().with_drop_path(0.2)
    found = rates(dropping, ["blocks.0", "blocks.1", "blocks.2"])
    assert found["blocks.0"] <= {0.0}  # timm drops nothing in the first block
    assert found["blocks.1"] == {0.1}
    assert found["blocks.2"] == {0.2}


def test_drop_path_rises_through_every_block_of_a_resnet() -> None:
    layers = [f"layer{stage}.{i}" for stage in (1, 2, 3, 4) for i in (0, 1)]
    found = rates(TimmBackbone("resnet18", {}).with_drop_path(0.7), layers)
    for i, layer in enumerate(layers):
        assert found[layer] <= {round(0.1 * i, 6)}, layer
        assert found[layer] or not i, layer


@pytest.mark.parametrize("backbone", [vit, lambda: TimmBackbone("resnet18", {})], ids=["vit", "resnet"])
def test_drop_path_changes_neither_the_weights_nor_the_evaluation(backbone) -> None:
    torch.manual_seed(0)
    plain = backbone().eval()
    for p in plain.parameters():  # timm's ResNets start with branches whose output is 0
        torch.nn.init.normal_(p, std=0.1)
    dropping = plain.with_drop_path(0.9)
    images = torch.rand(8, 3, 32, 32)
    assert torch.equal(dropping.eval()(images).pooled, plain(images).pooled)
    assert all(torch.equal(v, dropping.state_dict()[k]) for k, v in plain.state_dict().items())
    before = dropping.train()(images).pooled
    assert not torch.equal(before, dropping(images).pooled)


def test_the_drop_path_rate_of_pre_training_is_replaced() -> None:
    shape = {"dynamic_img_size": True, "depth": 2, "embed_dim": 24, "num_heads": 2, "patch_size": 8}
    backbone = TimmBackbone("vit_tiny_patch16_224", shape | {"drop_path_rate": 0.5})
    for rate in (0.0, 0.2):
        found = rates(backbone.with_drop_path(rate), ["blocks.0", "blocks.1"])
        assert found["blocks.1"] <= {rate}
    assert rates(backbone.with_drop_path(0.5), ["blocks.0", "blocks.1"])["blocks.1"] == {0.5}


def test_an_architecture_without_drop_path_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"^drop_path=0\.1: dla46_c [^\n]*try drop_path=0$"):
        TimmBackbone("dla46_c", {}).with_drop_path(0.1)


def test_a_copy_with_drop_path_keeps_the_normalization():
    backbone = vit(mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])
    for rate in (0.0, 0.2):
        copy = backbone.with_drop_path(rate)
        assert copy.normalization == backbone.normalization
        assert torch.equal(copy.mean, backbone.mean)
        assert torch.equal(copy.std, backbone.std)
