"""Methods that communicate between devices: two processes with half a batch each, against one process."""

import functools
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import torch.distributed
import torch.multiprocessing

from cim_lightning.cropping.multi_crop import MultiCrops
from cim_lightning.methods.dino import DINO
from cim_lightning.methods.moco_v3 import MoCoV3
from cim_lightning.models.heads import ContrastiveHead, DINOHead
from cim_lightning.models.target import EmaTarget
from cim_lightning.models.timm_backbone import TimmBackbone

SHAPE = {"patch_size": 4, "img_size": 16, "embed_dim": 24, "depth": 1, "num_heads": 3}
TARGET = functools.partial(EmaTarget, momentum=0.9, tied=[])
CONTRAST = functools.partial(ContrastiveHead, hidden_dim=12, out_dim=8, temperature=0.2, weight=1.0)
PROTOTYPES = functools.partial(DINOHead, hidden_dim=12, bottleneck_dim=8, out_dim=10)
SCHEDULES = (0.1, [0.04, 0.07], 0.5, 0.9, 0.25, 0.4)


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


def run_step(name: str, images: slice) -> dict[str, torch.Tensor]:
    """Return the loss on a slice of eight images, its gradient, and DINO's center after it."""
    torch.manual_seed(0)
    method = BUILD[name](TimmBackbone("vit_tiny_patch16_224", SHAPE, "sincos", False, "xavier"))
    crops = torch.randn(2, 8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    loss = method.compute_losses(MultiCrops(crops[:, images], None))["loss"]
    loss.backward()
    gradient = method.backbone.model.blocks[0].mlp.fc1.weight.grad
    return {"loss": loss.detach(), "gradient": gradient, "center": getattr(method, "center", torch.zeros(1))}


def run_process(rank: int, name: str, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    torch.save(run_step(name, slice(4 * rank, 4 * rank + 4)), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", BUILD)
def test_two_devices_match_one(name, tmp_path: Path):
    """The mean loss and gradient, as in DDP, and both centers equal those of the whole batch."""
    torch.multiprocessing.start_processes(run_process, (name, str(tmp_path)), nprocs=2, start_method="fork")
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    whole = run_step(name, slice(0, 8))
    for key in ("loss", "gradient"):
        torch.testing.assert_close((halves[0][key] + halves[1][key]) / 2, whole[key], atol=1e-5, rtol=1e-4)
    for half in halves:
        torch.testing.assert_close(half["center"], whole["center"])
    assert not torch.allclose(halves[0]["loss"], halves[1]["loss"])
