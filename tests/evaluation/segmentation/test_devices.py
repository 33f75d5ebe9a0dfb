"""Segmentation and dense evaluation in two processes give the numbers of one process."""

import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from cim_lightning.data.loader import Loading
from cim_lightning.data.segmentation import SegmentationSplits
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.dense import Dense
from cim_lightning.evaluation.finetuning.layer_decay import LayerDecayOptim
from cim_lightning.evaluation.segmentation.crops import RandomScaleCrop
from cim_lightning.evaluation.segmentation.segmentation import Segmentation
from cim_lightning.evaluation.segmentation.sliding_window import SlidingWindow
from cim_lightning.evaluation.trainer_factory import TrainerFactory
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.segmentation import LinearHead
from cim_lightning.models.timm_backbone import TimmBackbone

SHAPE = {
    "patch_size": 4,
    "img_size": 16,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 3,
    "dynamic_img_size": True,
}


class Noise:
    """Noisy quarters of images, whose brightness is the class. The sizes differ."""

    def __init__(self, count: int, seed: int):
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]:
        rng = np.random.default_rng((self.seed, index))
        mask = rng.integers(0, 3, (2, 2)).repeat(12, 0).repeat(10 + index % 2, 1).astype(np.uint8)
        pixels = 40 + 60 * mask[..., None] + rng.normal(0, 40, (*mask.shape, 3))
        mask[: index % 5] = 255
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), mask


class HeadWithoutNorm(LinearHead):
    """Batch normalization would depend on the size of the micro-batches."""

    def __init__(self, backbone: Backbone, num_classes: int):
        super().__init__(backbone, num_classes)
        self.norm = nn.Identity()


def evaluate(folder: Path, accumulate: int, rank: int = 0, world_size: int = 1) -> dict[str, float]:
    """Return the numbers of one process."""
    splits = SegmentationSplits(Noise(7, 0), Noise(5, 1), ["a", "b", "c"])
    strategy = {"strategy": "ddp", "devices": 2} if world_size == 2 else {"devices": 1}
    settings: dict[str, Any] = {"accelerator": "cpu", "enable_model_summary": False, **strategy}
    factory = TrainerFactory(partial(L.Trainer, **settings, accumulate_grad_batches=accumulate))
    torch.manual_seed(0)
    backbone = TimmBackbone("vit_tiny_patch16_224", SHAPE, "sincos", False, "xavier").eval()
    torch.manual_seed(rank)  # the training depends on the context's seed only
    data = SimpleNamespace(loading=Loading(0, None), view=SimpleNamespace(size=16))
    cpu = torch.device("cpu")
    context = EvalContext(backbone, None, data, cpu, folder, 0, {}, None, factory, rank, world_size)
    sgd = partial(torch.optim.SGD, momentum=0.9)
    optim = LayerDecayOptim(sgd, 0.1, 16, 0.9, 0.05, 0.1, "cosine")
    crops, inference = RandomScaleCrop(16, 24, (0.5, 2.0), 0.5), SlidingWindow(24, 16, 0.5)
    segmentation = Segmentation(
        lambda: splits, HeadWithoutNorm, True, 4, 8, crops, inference, optim, None, None, 2, "pictures"
    )
    dense = Dense(lambda: splits, inference, 100, 5, 0.1, 1e-3, 20, None, None)
    return segmentation(context) | dense(context)


def run_process(rank: int, folder: str, accumulate: int) -> None:
    torch.set_num_threads(1)
    # As Lightning sets them for the processes that it starts.
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": "2"}
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    torch.save(evaluate(Path(folder, "two"), accumulate, rank, 2), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_devices_match_one(tmp_path: Path) -> None:
    """The same steps of eight crops, as four micro-batches or as one, and the same five validation images."""
    torch.multiprocessing.start_processes(run_process, (str(tmp_path), 2), nprocs=2, start_method="fork")
    alone = evaluate(tmp_path / "one", 1)
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(alone, abs=1e-3)  # in %
    two, one = (
        load_file(*(tmp_path / name).glob("segmenters/*/weights.safetensors")) for name in ("two", "one")
    )
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=0, msg=name)
    pictures = [
        sorted(path.name for path in (tmp_path / name / "pictures").iterdir()) for name in ("one", "two")
    ]
    assert pictures == [["00000.png", "00004.png"]] * 2
    assert 34 < alone["pixel_accuracy"] < 100
