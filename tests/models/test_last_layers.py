"""Means over the last layers against outputs recorded by forward hooks."""

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.last_layers import LastLayers
from cim_lightning.models.timm_backbone import TimmBackbone

PLAIN = {"positions": "timm", "freeze_patch_embed": False, "init": "timm"}


def vit() -> Backbone:
    torch.manual_seed(0)
    shape = {"dynamic_img_size": True, "depth": 3, "embed_dim": 24, "num_heads": 2, "patch_size": 8}
    return TimmBackbone("vit_tiny_patch16_224", shape, **PLAIN).eval()


def test_one_layer_equals_the_backbone() -> None:
    backbone, images = vit(), torch.rand(2, 3, 24, 40)
    found, expected = LastLayers(backbone, 1)(images), backbone(images)
    torch.testing.assert_close(found.grid, expected.grid)
    torch.testing.assert_close(found.pooled, expected.pooled)


def test_two_layers_are_the_mean_of_their_normalized_tokens() -> None:
    backbone, images = vit(), torch.rand(2, 3, 24, 40)
    tokens = []
    for block in backbone.model.blocks[1:]:
        block.register_forward_hook(lambda _, __, out: tokens.append(out))
    backbone(images)
    mean = torch.stack([backbone.model.norm(layer) for layer in tokens]).mean(dim=0)
    found = LastLayers(backbone, 2)(images)
    torch.testing.assert_close(found.pooled, mean[:, 0])
    torch.testing.assert_close(found.grid, mean[:, 1:].transpose(1, 2).unflatten(2, (3, 5)))


@pytest.mark.parametrize("shape", [{"global_pool": "avg"}, {"global_pool": "avg", "class_token": False}])
def test_pooling_matches_the_pooling_of_the_model(shape: dict) -> None:
    given = vit()
    backbone = TimmBackbone(given.name, {**vit_shape(given), **shape}, **PLAIN).eval()
    for p in backbone.parameters():
        torch.nn.init.normal_(p, std=0.3)
    images = torch.rand(2, 3, 16, 24)
    found, expected = LastLayers(backbone, 1)(images), backbone(images)
    torch.testing.assert_close(found.pooled, expected.pooled)
    torch.testing.assert_close(found.grid, expected.grid)


def vit_shape(backbone: Backbone) -> dict:
    return {
        key: value for key, value in backbone.timm_kwargs.items() if key not in ("model_name", "in_chans")
    }


@pytest.mark.parametrize(
    ("name", "kwargs", "layers", "suggestion"),
    [("resnet18", {}, 2, 1), ("vit_tiny_patch16_224", {"depth": 2}, 3, 2), ("resnet18", {}, 0, 1)],
)
def test_missing_layers_and_layers_of_other_widths_are_errors(name, kwargs, layers, suggestion) -> None:
    with pytest.raises(ConfigError, match=rf"^layers={layers}: [^\n]*; try layers={suggestion}$"):
        LastLayers(TimmBackbone(name, kwargs, **PLAIN), layers)
