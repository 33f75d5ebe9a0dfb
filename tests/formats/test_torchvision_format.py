"""torchvision loads the weights of ResNets to identical features."""

import json

import pytest
import torch
import torchvision

from cim_lightning.errors import ConfigError
from cim_lightning.formats.torchvision_format import TorchvisionFormat
from cim_lightning.models.timm_backbone import TimmBackbone


@pytest.mark.user_input("export", "`format=torchvision` of a ResNet", "torchvision has identical features")
def test_torchvision_loads_a_resnet(tmp_path):
    torch.manual_seed(0)
    backbone = TimmBackbone("resnet18", mean=[0.2, 0.4, 0.7], std=[0.1, 0.3, 0.5]).eval()
    with torch.no_grad():
        for buffer in backbone.timm_model().buffers():
            if buffer.is_floating_point():
                buffer.add_(0.1 * torch.rand_like(buffer))  # statistics of a trained network
    TorchvisionFormat(1e-5).export(backbone, 64, tmp_path, {})
    config = json.loads((tmp_path / "torchvision.json").read_text())
    assert config == {
        "model": "resnet18",
        "mean": backbone.normalization["mean"],
        "std": backbone.normalization["std"],
        "image_size": 64,
    }
    model = torchvision.models.resnet18()
    found = model.load_state_dict(torch.load(tmp_path / "backbone.pth"), strict=False)
    assert found.missing_keys == ["fc.weight", "fc.bias"]
    assert found.unexpected_keys == []
    model.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), backbone(images).pooled, rtol=1e-5, atol=1e-5)


@pytest.mark.user_input(
    "export", "`format=torchvision` of a ViT or a changed ResNet", "one line: try a ResNet"
)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vit_tiny_patch16_224", {"kwargs": {"depth": 1}}),
        ("convnext_tiny", {}),  # torchvision has one of this name with other tensors
        ("resnet18", {"in_channels": 4, "mean": [0.5] * 4, "std": [0.5] * 4}),
    ],
)
def test_an_architecture_that_torchvision_does_not_have_is_an_error(name, arguments, tmp_path):
    backbone = TimmBackbone(name, **arguments).eval()
    with pytest.raises(ConfigError, match=rf"^backbone={name}: torchvision has no model .*; try a ResNet"):
        TorchvisionFormat(1e-5).export(backbone, 64, tmp_path, {})
    assert not (tmp_path / "backbone.pth").exists()
