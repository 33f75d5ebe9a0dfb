"""Multi-scale features, segmentation heads and segmenter: inputs, shapes and gradients."""

import re

import pytest
import torch
from torch import nn

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.module_backbone import ModuleBackbone
from cim_lightning.models.segmentation import LinearHead, MultiScaleFeatures, Segmenter, UperNet
from cim_lightning.models.timm_backbone import TimmBackbone

PLAIN = {"positions": "timm", "freeze_patch_embed": False, "init": "timm"}
CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 20)}
SWIN = {"depths": (1, 1, 1, 1), "embed_dim": 8, "num_heads": (1, 1, 2, 2), "strict_img_size": False}


def vit(depth: int = 12) -> Backbone:
    kwargs = {"dynamic_img_size": True, "depth": depth, "embed_dim": 12, "num_heads": 2, "patch_size": 8}
    return TimmBackbone("vit_tiny_patch16_224", kwargs, **PLAIN)


def upernet(backbone: Backbone, classes: int = 5) -> UperNet:
    return UperNet(backbone, classes, width=7, bins=(1, 2, 3, 6), dropout=0.1)


@pytest.mark.parametrize(
    ("depth", "blocks"), [(12, [2, 5, 8, 11]), (24, [5, 11, 17, 23]), (3, [0, 1, 1, 2]), (1, [0] * 4)]
)
def test_levels_of_a_plain_backbone_are_quarters_of_its_blocks(depth: int, blocks: list[int]) -> None:
    backbone = vit(depth).eval()
    features = MultiScaleFeatures(backbone)
    assert (features.indices, features.widths, features.strides) == (blocks, [12] * 4, [8] * 4)
    outputs: dict[int, torch.Tensor] = {}
    for i, block in enumerate(backbone.model.blocks):
        block.register_forward_hook(lambda module, args, out, i=i: outputs.update({i: out}))
    levels = features.extract(backbone, torch.randn(2, 3, 24, 40))
    for i, level in zip(blocks, levels, strict=True):
        assert torch.equal(level, outputs[i][:, 1:].transpose(1, 2).reshape(2, 12, 3, 5))


@pytest.mark.parametrize(
    ("name", "kwargs", "widths"),
    [
        ("resnet18", {}, [64, 128, 256, 512]),
        ("convnext_tiny", CONVNEXT, [8, 12, 16, 20]),
        ("swin_tiny_patch4_window7_224", SWIN, [8, 16, 32, 64]),
    ],
)
def test_levels_of_a_hierarchical_backbone_are_its_stages(name: str, kwargs: dict, widths: list[int]) -> None:
    backbone = TimmBackbone(name, kwargs, **PLAIN).eval()
    features = MultiScaleFeatures(backbone)
    assert (features.widths, features.strides) == (widths, [4, 8, 16, 32])
    levels = features.extract(backbone, torch.randn(1, 3, 64, 96))
    assert [tuple(level.shape[1:]) for level in levels] == [
        (w, 64 // s, 96 // s) for w, s in zip(widths, [4, 8, 16, 32], strict=True)
    ]


def test_a_backbone_without_intermediate_features_has_its_output_as_each_level() -> None:
    backbone = ModuleBackbone(nn.Conv2d(3, 6, 8, stride=8), dim=6, patch_size=8)
    features = MultiScaleFeatures(backbone)
    assert (features.widths, features.strides) == ([6] * 4, [8] * 4)
    images = torch.randn(2, 3, 24, 40)
    for level in features.extract(backbone, images):
        assert torch.equal(level, backbone(images).grid)


@pytest.mark.parametrize(
    ("backbone", "sides"),
    [
        (vit(4), [(20, 12), (10, 6), (5, 3), (3, 2)]),
        (TimmBackbone("resnet18", {}, **PLAIN), [(10, 6), (5, 3), (3, 2), (2, 1)]),
    ],
    ids=["vit", "resnet"],
)
def test_shapes_of_the_feature_pyramid(backbone: Backbone, sides: list[tuple[int, int]]) -> None:
    head = upernet(backbone).eval()
    pyramid = head.pyramid(head.extract(backbone.eval(), torch.randn(2, 3, 40, 24)))
    assert [tuple(level.shape) for level in pyramid] == [(2, 7, *side) for side in sides]


@pytest.mark.parametrize("name", ["vit", "resnet"])
@pytest.mark.parametrize("make", [LinearHead, upernet])
def test_logits_have_the_size_of_the_images_and_all_inputs_get_gradients(name: str, make) -> None:
    backbone = vit(4) if name == "vit" else TimmBackbone("resnet18", {}, **PLAIN)
    model = Segmenter(backbone, lambda b, n: make(b, n), 5, finetune=True).train()
    logits = model(torch.randn(2, 3, 40, 56))
    assert logits.shape == (2, 5, 40, 56)
    logits.square().sum().backward()
    no_gradient = {parameter for parameter, p in model.named_parameters() if p.grad is None}
    final_norm = {"backbone.model.norm.weight", "backbone.model.norm.bias"}  # after the levels of UperNet
    assert no_gradient == (final_norm if make is upernet and name == "vit" else set())


def test_the_linear_head_is_linear_in_standardized_cells() -> None:
    backbone = vit(2).eval()
    head = LinearHead(backbone, 3).train()
    with torch.no_grad():
        head.classify.weight.copy_(torch.randn(3, 12, 1, 1))
    images = torch.randn(2, 3, 24, 40)
    (grid,) = head.extract(backbone, images)
    assert torch.equal(grid, backbone(images).grid)
    mean, deviation = grid.mean(dim=(0, 2, 3)), grid.var(dim=(0, 2, 3), correction=0).add(1e-5).sqrt()
    for y, x in ((0, 0), (2, 4)):
        expected = (grid[1, :, y, x] - mean) / deviation @ head.classify.weight[:, :, 0, 0].T
        torch.testing.assert_close(head([grid])[1, :, y, x], expected, atol=1e-5, rtol=1e-4)


def test_logits_do_not_depend_on_the_other_images() -> None:
    model = Segmenter(vit(2), upernet, 5, finetune=False).eval()
    images = torch.randn(2, 3, 48, 48)
    other = images.clone()
    other[1] = torch.randn(3, 48, 48)
    logits, other_logits = model(images), model(other)
    torch.testing.assert_close(logits[0], other_logits[0])
    assert not torch.allclose(logits[1], other_logits[1])


def test_the_pyramid_adds_the_deeper_levels_to_each_level() -> None:
    head = upernet(vit(4)).eval()
    head.rescale = nn.ModuleList(nn.Identity() for _ in range(4))
    head.lateral, head.smooth = (nn.ModuleList(nn.Identity() for _ in range(3)) for _ in range(2))
    head.bins, head.pooled = nn.ModuleList(), nn.Identity()
    levels = [
        torch.full((1, 7, side, side), value)
        for side, value in ((8, 1.0), (4, 10.0), (2, 100.0), (1, 1000.0))
    ]
    pyramid = head.pyramid(levels)
    for level, value in zip(pyramid, (1111, 1110, 1100, 1000), strict=True):
        torch.testing.assert_close(level, torch.full_like(level, value))
    head.fuse, head.classify = nn.Identity(), nn.Identity()
    fused = head(levels)
    expected = torch.tensor([1111.0, 1110, 1100, 1000]).repeat_interleave(7)[None, :, None, None]
    torch.testing.assert_close(fused, expected.expand(1, 28, 8, 8))


def test_pyramid_pooling_connects_opposite_corners() -> None:
    head = upernet(vit(2)).eval()
    levels = [torch.randn(1, 12, 24, 24) for _ in range(4)]
    changed = [*levels[:-1], levels[-1].clone()]
    changed[-1][..., 0, 0] += 10  # outside the receptive field of the convolutions at the opposite corner
    assert not torch.equal(head(levels)[..., -1, -1], head(changed)[..., -1, -1])
    head.bins = nn.ModuleList()
    head.pooled[0].weight = nn.Parameter(head.pooled[0].weight[:, :12])
    assert torch.equal(head(levels)[..., -1, -1], head(changed)[..., -1, -1])


def test_a_frozen_backbone_stays_in_evaluation_mode_without_gradients() -> None:
    backbone = TimmBackbone("resnet18", {}, **PLAIN).eval()
    model = Segmenter(backbone, LinearHead, 3, finetune=False).train()
    assert model.head.norm.training
    assert not any(module.training for module in model.backbone.modules())
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in model.backbone.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())
    assert all(p.grad is not None for p in model.head.parameters())


@pytest.mark.parametrize("finetune", [True, False])
def test_parameters_that_do_not_affect_the_logits_are_frozen(finetune: bool) -> None:
    model = Segmenter(vit(2), upernet, 3, finetune=finetune).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.freeze_unused(torch.randn(1, 3, 32, 32))
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    final_norm = {"backbone.model.norm.weight", "backbone.model.norm.bias"}
    backbone = {name for name, _ in model.named_parameters() if name.startswith("backbone.")}
    assert frozen == (final_norm if finetune else backbone)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_fine_tuning_trains_a_copy_without_frozen_parameters() -> None:
    backbone = vit(1)
    backbone.model.patch_embed.requires_grad_(False)
    model = Segmenter(backbone, LinearHead, 3, finetune=True)
    assert all(p.requires_grad for p in model.backbone.parameters())
    assert not any(p.requires_grad for p in backbone.model.patch_embed.parameters())
    assert not set(map(id, backbone.parameters())) & set(map(id, model.parameters()))


@pytest.mark.parametrize(
    ("name", "value", "expected", "suggestion"),
    [
        ("width", 0, "width=0: ", "width=1"),
        ("bins", (1, 0), "bins=[1, 0]: ", "bins=[1, 1]"),
        ("dropout", 1.0, "dropout=1.0: ", "dropout=0.9"),
    ],
)
def test_a_mistake_in_upernet_gets_one_line(name: str, value: object, expected: str, suggestion: str) -> None:
    arguments = {"width": 7, "bins": (1, 2), "dropout": 0.1} | {name: value}
    with pytest.raises(ConfigError, match=f"^{re.escape(expected)}[^\n]*try {re.escape(suggestion)}$"):
        UperNet(vit(1), 3, **arguments)


def test_upernet_fuses_by_convolution_with_batch_norm() -> None:
    assert sum(isinstance(m, nn.BatchNorm2d) for m in upernet(vit(1)).modules()) == 1 + 4 + 1 + 3 + 3 + 1


def test_pyramid_pooling_can_be_switched_off() -> None:
    head = UperNet(vit(2), 5, width=7, bins=[], dropout=0.1).eval()
    assert head([torch.randn(1, 12, 4, 4) for _ in range(4)]).shape == (1, 5, 16, 16)
