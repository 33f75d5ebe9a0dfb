"""Small backbones of every family, whose every weight is moved from where it was made."""

from pathlib import Path

import pytest
import torch

from cim_lightning.export.input_spec import Images
from cim_lightning.export.onnx_graph import Graph
from cim_lightning.models.backbone import Backbone

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


def made(family: str, channels: int = 3) -> Backbone:
    name, kwargs = FAMILIES[family]
    torch.manual_seed(3)
    backbone = Backbone(name, {"in_chans": channels, **kwargs}, "timm", False, "timm")
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for buffer in backbone.buffers():
            if buffer.is_floating_point():
                buffer.add_(0.1 * torch.rand_like(buffer))  # upwards, for variances
    return backbone.eval()


@pytest.fixture(params=FAMILIES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return made(request.param)


@pytest.fixture
def vit() -> Backbone:
    return made("vit")


@pytest.fixture(scope="session")
def vit_graph(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of `vit` as a graph, made once: it takes seconds."""
    folder = tmp_path_factory.mktemp("graph")
    Graph(1e-4, None).write(made("vit"), images, folder)
    return folder / Graph.file


@pytest.fixture(scope="session")
def images() -> Images:
    """Their size is none of the architectures' own."""
    return Images(3, 48, {"_target_": "kornia.enhance.Normalize", "mean": MEAN, "std": STD})
