"""Drop path in every block, and training of a probe or of all parameters."""

import copy

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.classifier import Classifier
from cim_lightning.models.timm_backbone import TimmBackbone

PLAIN = {"positions": "timm", "freeze_patch_embed": False, "init": "timm"}


def vit(**scale) -> Backbone:
    shape = {"dynamic_img_size": True, "depth": 3, "embed_dim": 24, "num_heads": 2, "patch_size": 8}
    return TimmBackbone("vit_tiny_patch16_224", shape, **PLAIN, **scale)


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


@pytest.mark.parametrize("finetune", [False, True])
def test_the_head_is_a_linear_layer_with_small_weights(finetune: bool) -> None:
    model = Classifier(vit(), 500, finetune=finetune, features="mean", drop_path=0.0)
    parameters = dict(model.head.named_parameters())
    assert list(parameters) == ["1.weight", "1.bias"]
    assert parameters["1.weight"].std().item() == pytest.approx(0.01, rel=0.05)
    assert not parameters["1.bias"].any()


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
