"""Methods with a torchvision ResNet and with an own network, under a plain Lightning Trainer."""

import copy
from collections import OrderedDict

import lightning as L
import pytest
import torch
import torchvision
from torch import nn

from cim_lightning.cropping.correlation_metrics import MeanMapBaseline
from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.cropping.masking import MaskedCropper
from cim_lightning.methods.cim import CIM
from cim_lightning.methods.method import Method
from cim_lightning.methods.simmim import SimMIM
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.decoder import CorrelationDecoder
from cim_lightning.models.module_backbone import ModuleBackbone
from cim_lightning.optim import AdamWCosine


def resnet() -> Backbone:
    layers = list(torchvision.models.resnet18(weights=None).named_children())[:-2]  # without pooling and head
    return ModuleBackbone(nn.Sequential(OrderedDict(layers)), dim=512, patch_size=32)


def own() -> Backbone:
    layers = (nn.Conv2d(3, 6, 4, stride=4), nn.GELU(), nn.Conv2d(6, 10, 3, stride=2, padding=1))
    return ModuleBackbone(nn.Sequential(*layers), dim=10, patch_size=8)


def make(name: str, backbone: Backbone) -> tuple[Method, list]:
    """Return a method and two batches of three images."""
    optim = AdamWCosine(base_lr=0.1, warmup=0)
    views = torch.randint(0, 256, (2, 3, 3, 64, 64), dtype=torch.uint8)
    if name == "simmim":
        cropping = MaskedCropper(64, 32, 0.5)
        method: Method = SimMIM(backbone, optim, batch_size=3)
    else:
        cropping = ExemplarCropper(num_exemplars=2, context_size=64, exemplar_size=32)
        decoder, baseline = (
            lambda dim: CorrelationDecoder(dim, width=8, num_heads=2),
            MeanMapBaseline(0.5, 0, 0, 0),
        )
        method = CIM(backbone, decoder, optim=optim, baseline=baseline, batch_size=3)
    return method, [cropping(batch, seed) for seed, batch in enumerate(views)]


@pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training")  # the EMA target of CIM
@pytest.mark.parametrize("build", [resnet, own])
@pytest.mark.parametrize("name", ["cim", "simmim"])
def test_every_parameter_of_the_backbone_is_trained(name, build, tmp_path):
    torch.manual_seed(0)
    method, batches = make(name, build())
    before = copy.deepcopy(dict(method.backbone.named_parameters()))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "default_root_dir": tmp_path}
    trainer = L.Trainer(accelerator="cpu", max_steps=2, **quiet)
    loader = torch.utils.data.DataLoader(batches, batch_size=None)
    trainer.fit(method, loader, loader)
    for parameter_name, parameter in method.backbone.named_parameters():
        assert parameter.isfinite().all()
        assert not torch.equal(parameter, before[parameter_name]), parameter_name
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert method.eval_backbone(method.backbone.normalize(images)).grid.isfinite().all()
