"""Methods that communicate between devices: two processes with half a batch each, against one process."""

import functools
from unittest.mock import Mock

import pytest
import torch

from cim_lightning.cropping.multi_crop import MultiCrops
from cim_lightning.methods.dino import DINO
from cim_lightning.methods.method import Method
from cim_lightning.methods.moco_v3 import MoCoV3
from cim_lightning.models.heads import ContrastiveHead, DINOHead
from cim_lightning.models.target import EmaTarget
from cim_lightning.models.timm_backbone import TimmBackbone
from cim_lightning.schedule import Schedule

SHAPE = {"patch_size": 4, "img_size": 16, "embed_dim": 24, "depth": 1, "num_heads": 3}
TARGET = functools.partial(EmaTarget, momentum=0.9, tied=[])
CONTRAST = functools.partial(ContrastiveHead, hidden_dim=12, out_dim=8, temperature=0.2, weight=1.0)
PROTOTYPES = functools.partial(DINOHead, hidden_dim=12, bottleneck_dim=8, out_dim=10)
SCHEDULES = (0.1, Schedule(0.04, 0.07), 0.9, 0.25)


def freeze_batch_norm(method: MoCoV3) -> MoCoV3:
    """Use the running statistics, which do not depend on how the images are distributed."""
    for module in method.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval()
    return method


BUILD = {
    "moco_v3": lambda backbone: freeze_batch_norm(MoCoV3(backbone, TARGET, CONTRAST, Mock)),
    "dino": lambda backbone: DINO(backbone, TARGET, PROTOTYPES, Mock, *SCHEDULES),
}


@pytest.mark.parametrize("name", BUILD)
def test_two_devices_match_one(name, assert_two_devices_match_one):
    crops = torch.rand(2, 8, 3, 16, 16, generator=torch.Generator().manual_seed(1))

    def build() -> Method:
        return BUILD[name](TimmBackbone("vit_tiny_patch16_224", SHAPE, "sincos", False, "xavier"))

    assert_two_devices_match_one(build, lambda images: MultiCrops(crops[:, images], None))
