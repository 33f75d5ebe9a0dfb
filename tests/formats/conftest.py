"""Small backbones of every family, with noise on all weights and statistics."""

from pathlib import Path

import jaxtyping
import pytest
import torch

from cim_lightning.formats.onnx_format import ONNXFormat
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.timm_backbone import TimmBackbone

FAMILIES = {
    "vit": (
        "vit_tiny_patch16_224",
        {
            "depth": 1,
            "embed_dim": 16,
            "num_heads": 2,
            "patch_size": 8,
            "img_size": 64,
            "dynamic_img_size": True,
        },
    ),
    "resnet": ("test_resnet", {}),
    "convnext": ("convnext_tiny", {"depths": [1, 1, 1, 1], "dims": [4, 4, 8, 16]}),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"embed_dim": 8, "depths": [2], "num_heads": [2], "strict_img_size": False},
    ),
}
MEAN, STD = [0.2, 0.4, 0.7], [0.1, 0.3, 0.5]
SIZE = 48  # side of the images in pixels, which is not the default of any architecture


def make_backbone(family: str) -> Backbone:
    name, kwargs = FAMILIES[family]
    torch.manual_seed(3)
    backbone = TimmBackbone(name, kwargs, mean=MEAN, std=STD)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for buffer in backbone.timm_model().buffers():
            if buffer.is_floating_point():
                buffer.add_(0.1 * torch.rand_like(buffer))  # positive, for variances
    return backbone.eval()


@pytest.fixture
def untyped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the type checks of the tests, since torch.export calls functions with symbolic sizes."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(params=FAMILIES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return make_backbone(request.param)


@pytest.fixture
def vit() -> Backbone:
    return make_backbone("vit")


@pytest.fixture(scope="session")
def vit_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the ONNX file of `vit`, once because it takes seconds."""
    folder = tmp_path_factory.mktemp("onnx")
    backbone = make_backbone("vit")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        ONNXFormat(1e-4, None).write(backbone, SIZE, folder)
    return folder / ONNXFormat.file
