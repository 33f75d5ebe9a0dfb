"""Methods that communicate between devices: two processes with half a batch each, against one process."""

import functools
from unittest.mock import Mock

import pytest
import torch

from cim_lightning.cropping.correlation_metrics import MeanMapBaseline
from cim_lightning.cropping.exemplars import Crops, ExemplarCropper
from cim_lightning.cropping.masked_exemplars import MaskedCrops, MaskedExemplarCropper
from cim_lightning.cropping.multi_crop import MultiCrops
from cim_lightning.methods.cim import CIM
from cim_lightning.methods.dino import DINO
from cim_lightning.methods.masked_cim import MaskedCIM
from cim_lightning.methods.method import Method
from cim_lightning.methods.moco_v3 import MoCoV3
from cim_lightning.models.alignment import Alignment
from cim_lightning.models.coding_rate import CodingRate
from cim_lightning.models.heads import ContrastiveHead, DINOHead
from cim_lightning.models.pixel_decoder import PixelDecoder
from cim_lightning.models.target import EmaTarget, SharedTarget
from cim_lightning.models.timm_backbone import TimmBackbone
from cim_lightning.models.token_correlation import TokenCorrelation
from cim_lightning.schedule import Schedule

SHAPE = {"patch_size": 4, "img_size": 16, "embed_dim": 24, "depth": 1, "num_heads": 3}
SHAPE |= {"dynamic_img_size": True}
TARGET = functools.partial(EmaTarget, momentum=0.9, tied=[])
CONTRAST = functools.partial(ContrastiveHead, hidden_dim=12, out_dim=8, temperature=0.2, weight=1.0)
PROTOTYPES = functools.partial(DINOHead, hidden_dim=12, bottleneck_dim=8, out_dim=10)
TOKENS = functools.partial(TokenCorrelation, hidden_dim=12, out_dim=8)
BASELINE = MeanMapBaseline(loss=0.5, iou=0.25, best_iou=0.375, pointing=0.125)
SCHEDULES = (0.1, Schedule(0.04, 0.07), 0.9, 0.25)


def freeze_batch_norm(method: MoCoV3) -> MoCoV3:
    """Use the running statistics, which do not depend on how the images are distributed."""
    for module in method.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval()
    return method


BUILD = {
    "moco_v3": lambda backbone: freeze_batch_norm(MoCoV3(backbone, TARGET, CONTRAST, Mock)),
    "moco_v3_shared": lambda backbone: freeze_batch_norm(MoCoV3(backbone, SharedTarget, CONTRAST, Mock)),
    "dino": lambda backbone: DINO(backbone, TARGET, PROTOTYPES, Mock, *SCHEDULES),
}


@pytest.mark.parametrize("name", BUILD)
def test_two_devices_match_one(name, assert_two_devices_match_one):
    crops = torch.rand(2, 8, 3, 16, 16, generator=torch.Generator().manual_seed(1))

    def build() -> Method:
        return BUILD[name](TimmBackbone("vit_tiny_patch16_224", SHAPE, "sincos", False, "xavier"))

    assert_two_devices_match_one(build, lambda images: MultiCrops(crops[:, images], None))


@pytest.mark.parametrize("online_input", ["exemplars", "context"])
def test_two_devices_match_one_with_token_correlation(online_input, assert_two_devices_match_one):
    """The keys are those of the EMA target, or trained ones."""
    views = torch.rand(8, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    crops = ExemplarCropper(2, context_size=24, exemplar_size=16, appearance=None)(views, 0)

    def build() -> Method:
        backbone = TimmBackbone("vit_tiny_patch16_224", SHAPE, "sincos", False, "xavier")
        return CIM(backbone, None, TARGET, Mock, BASELINE, online_input, tokens=TOKENS)

    def batch(images: slice) -> Crops:
        return Crops(*(None if part is None else part[images] for part in crops))

    assert_two_devices_match_one(build, batch)


def test_two_devices_match_one_with_coding_rate_and_alignment(assert_two_devices_match_one):
    views = torch.rand(8, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    exemplars = ExemplarCropper(2, context_size=24, exemplar_size=16, appearance=None)
    crops, mask, num_masked = MaskedExemplarCropper(exemplars, 4, 0.5)(views, 0)

    def build() -> Method:
        backbone = TimmBackbone("vit_tiny_patch16_224", SHAPE, "sincos", False, "xavier")
        decoder = functools.partial(PixelDecoder, width=16, depth=1, num_heads=2)
        terms = {"rate": CodingRate(0.5), "alignment": Alignment(0.5)}
        return MaskedCIM(backbone, decoder, TOKENS, TARGET, Mock, **terms)

    def batch(images: slice) -> MaskedCrops:
        parts = (None if part is None else part[images] for part in crops)
        return MaskedCrops(Crops(*parts), mask[images], num_masked)

    assert_two_devices_match_one(build, batch)
