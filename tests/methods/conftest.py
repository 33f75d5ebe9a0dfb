"""What the methods' tests share: a small ViT, views, and what stands around a method without a trainer."""

from collections.abc import Callable
from unittest.mock import Mock

import pytest
import torch

from cim_lightning.models.backbone import Backbone

VIT = {"patch_size": 4, "img_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 3, "dynamic_img_size": True}


@pytest.fixture
def vit() -> Callable[..., Backbone]:
    """Makes a ViT of 4 x 4 patches."""

    def make(freeze: bool = False) -> Backbone:
        torch.manual_seed(0)
        return Backbone("vit_tiny_patch16_224", VIT, "sincos", freeze, "xavier")

    return make


@pytest.fixture
def views() -> torch.Tensor:
    size = (6, 3, 20, 20)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def alone() -> Callable[..., torch.optim.Optimizer]:
    """Takes a method out of its loop: what it logs goes nowhere, and it has an optimizer all the same."""

    def prepare(method, **settings) -> torch.optim.Optimizer:
        method.log_dict = Mock()
        optimizer = torch.optim.SGD(
            [p for p in method.parameters() if p.requires_grad], **{"lr": 0.1} | settings
        )
        method._trainer = Mock(optimizers=[optimizer])
        return optimizer

    return prepare
