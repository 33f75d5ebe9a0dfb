"""Drop path in every block, and training of a probe or of all parameters."""

import copy

import pytest
import torch
from timm.layers import DropPath

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.classifier import Classifier, top_accuracy
from cim_lightning.models.timm_backbone import TimmBackbone

PLAIN = {"positions": "timm", "freeze_patch_embed": False, "init": "timm"}


def vit(**scale) -> Backbone:
    shape = {"dynamic_img_size": True, "depth": 3, "embed_dim": 24, "num_heads": 2, "patch_size": 8}
    return TimmBackbone("vit_tiny_patch16_224", shape, **PLAIN, **scale)


def rates(backbone: Backbone, layers: list[str]) -> dict[str, set[float]]:
    """Return the drop probabilities of each layer."""
    found = {layer: set() for layer in layers}
    for name, module in backbone.model.named_modules():
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
    found = rates(TimmBackbone("resnet18", {}, **PLAIN).with_drop_path(0.7), layers)
    for i, layer in enumerate(layers):
        assert found[layer] <= {round(0.1 * i, 6)}, layer
        assert found[layer] or not i, layer


@pytest.mark.parametrize(
    "backbone", [vit, lambda: TimmBackbone("resnet18", {}, **PLAIN)], ids=["vit", "resnet"]
)
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
    backbone = TimmBackbone("vit_tiny_patch16_224", shape | {"drop_path_rate": 0.5}, **PLAIN)
    for rate in (0.0, 0.2):
        found = rates(backbone.with_drop_path(rate), ["blocks.0", "blocks.1"])
        assert found["blocks.1"] <= {rate}
    assert rates(backbone.with_drop_path(0.5), ["blocks.0", "blocks.1"])["blocks.1"] == {0.5}


def test_an_architecture_without_drop_path_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"^drop_path=0\.1: dla46_c [^\n]*try drop_path=0$"):
        TimmBackbone("dla46_c", {}, **PLAIN).with_drop_path(0.1)


@pytest.mark.parametrize("features", ["mean", "pooled"])
def test_a_probe_trains_only_its_head(features: str) -> None:
    given = TimmBackbone("test_resnet", {}, **PLAIN)
    model = Classifier(given, 3, finetune=False, features=features, drop_path=0.5).train()
    before = copy.deepcopy(model.backbone.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(torch.rand(6, 3, 32, 32)).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())
    assert all(p.grad is None for p in model.backbone.parameters())
    assert all(p.grad is not None for p in model.head.parameters())


def test_finetuning_trains_all_parameters_of_a_copy() -> None:
    given = vit()
    given.model.patch_embed.requires_grad_(False)
    model = Classifier(given, 3, finetune=True, features="mean", drop_path=0.0).train()
    model(torch.rand(6, 3, 32, 32)).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(p.grad is None for p in given.parameters())


def test_logits_are_linear_in_the_pooled_features_of_normalized_images() -> None:
    given = vit(mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 1.0]).eval()
    images = torch.rand(2, 3, 16, 24)
    offsets, factors = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([2.0, 4.0, 1.0])
    output = given((images - offsets[:, None, None]) * factors[:, None, None])
    for features, expected in (("mean", output.grid.mean(dim=(2, 3))), ("pooled", output.pooled)):
        model = Classifier(given, 3, finetune=True, features=features, drop_path=0.0).eval()
        linear = model.head[1]
        torch.testing.assert_close(model(images), expected @ linear.weight.T + linear.bias)


def test_gradients_reach_the_images_of_a_frozen_probe() -> None:
    model = Classifier(vit(), 3, finetune=False, features="mean", drop_path=0.0).eval()
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    model(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().max() > 0


def test_top_accuracy_by_hand() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [2.0, 3.0, 1.0]])
    labels = torch.tensor([0, 1, 2])
    assert [top_accuracy(logits, labels, k) for k in (1, 2, 3, 5)] == [1, 2, 3, 3]


@pytest.mark.parametrize(
    ("features", "drop_path", "message"),
    [
        ("max", 0.0, r"^features=max: must be one of mean, pooled"),
        ("mean", 1.0, r"^drop_path=1\.0: [^\n]*try drop_path=0\.9$"),
        ("mean", -0.1, r"^drop_path=-0\.1: [^\n]*try drop_path=0\.0$"),
    ],
)
def test_a_mistake_gets_one_line(features: str, drop_path: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Classifier(vit(), 3, finetune=True, features=features, drop_path=drop_path)
