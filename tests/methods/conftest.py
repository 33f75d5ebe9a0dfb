"""Fixtures of the method tests: a small ViT, views, and a mock trainer."""

from collections.abc import Callable
from unittest.mock import Mock

import pytest
import torch

from cim_lightning.models.backbone import Backbone
from cim_lightning.models.timm_backbone import TimmBackbone

VIT = {"patch_size": 4, "img_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 3, "dynamic_img_size": True}


@pytest.fixture
def vit() -> Callable[..., Backbone]:
    """Build a ViT with patches of 4 x 4 pixels."""

    def build(freeze: bool = False) -> Backbone:
        torch.manual_seed(0)
        return TimmBackbone("vit_tiny_patch16_224", VIT, "sincos", freeze, "xavier")

    return build


@pytest.fixture
def views() -> torch.Tensor:
    size = (6, 3, 20, 20)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def detach_from_trainer() -> Callable[..., torch.optim.Optimizer]:
    """Give a method an optimizer and a mock trainer, and discard what it logs."""

    def prepare(method, **settings) -> torch.optim.Optimizer:
        method.log_dict = Mock()
        optimizer = torch.optim.SGD(
            [p for p in method.parameters() if p.requires_grad], **{"lr": 0.1} | settings
        )
        method._trainer = Mock(optimizers=[optimizer])
        return optimizer

    return prepare
