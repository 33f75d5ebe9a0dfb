"""Fine-tuning in two processes gives the numbers of one process.

Mixing, erasing and drop path are off: their random numbers depend on the process. Views are random.
"""

import os
from functools import partial
from pathlib import Path
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

from cim_lightning.data.augmentation import RandAugmentCrop
from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.source import Splits
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.finetuning.classifier_training import ClassifierTraining
from cim_lightning.evaluation.finetuning.finetune import Finetune
from cim_lightning.evaluation.finetuning.layer_decay import LayerDecayOptim
from cim_lightning.evaluation.finetuning.mixup_cutmix import MixupCutmix
from cim_lightning.evaluation.trainer_factory import TrainerFactory
from cim_lightning.models.timm_backbone import TimmBackbone

SHAPE = {"patch_size": 4, "img_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 3}


class Stripes:
    """Images of stripes, whose period is the class, in noise."""

    def __init__(self, count: int, seed: int):
        self.count, self.seed, self.classes = count, seed, [*"abcdefg"]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        rng, label = np.random.default_rng((self.seed, index)), index % 7
        stripes = np.sin(np.arange(24) * (label + 1) / 4)[:, None, None]
        pixels = (128 + 80 * stripes + rng.normal(0, 30, (24, 20, 3))).clip(0, 255)
        return Image.fromarray(pixels.astype(np.uint8)), label


def finetune(folder: Path, accumulate: int, rank: int = 0, world_size: int = 1, epochs: int = 2) -> Any:
    """Return the accuracies of one process."""
    splits = Splits(Stripes(29, 0), Stripes(33, 1))
    data = ImageData(lambda: splits, lambda views, seed: views, 4, 0, 16, (1, 1), (1, 1), 0.0, 0)  # pyright: ignore
    strategy = {"strategy": "ddp", "devices": 2} if world_size == 2 else {"devices": 1}
    settings: dict[str, Any] = {"accelerator": "cpu", "enable_model_summary": False, "log_every_n_steps": 1}
    settings |= {"accumulate_grad_batches": accumulate, **strategy}
    factory = TrainerFactory(partial(L.Trainer, **settings))
    torch.manual_seed(0)
    backbone = TimmBackbone("vit_tiny_patch16_224", SHAPE, "sincos", False, "xavier").eval()
    torch.manual_seed(rank)  # the training depends on the context's seed only
    cpu = torch.device("cpu")
    context = EvalContext(backbone, None, data, cpu, folder, 0, {}, None, factory, rank, world_size)
    view = RandAugmentCrop(16, (0.5, 1), (0.75, 1.33), 0.5, "rand-m2-mstd0.5-inc1")
    sgd = partial(torch.optim.SGD, momentum=0.9)
    optim = LayerDecayOptim(sgd, 0.1, None, 0.9, 0.05, 0.1, "cosine")
    off = MixupCutmix(0.0, 0.0, 0.0, 0.1)
    training = ClassifierTraining(
        True, "mean", 0.0, epochs, 8, 2, view, off, nn.CrossEntropyLoss, optim, 0.5, None
    )
    return Finetune(training, None)(context)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("classifiers/*/weights.safetensors")
    return load_file(file)


def run_process(rank: int, folder: str, accumulate: int) -> None:
    torch.set_num_threads(1)
    # As Lightning sets them for the processes that it starts.
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": "2"}
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    numbers = finetune(Path(folder, "two"), accumulate, rank, 2)
    torch.save(numbers, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("accumulate", "accumulate_alone"), [(1, 1), (2, 1)])
def test_two_devices_match_one(accumulate: int, accumulate_alone: int, tmp_path: Path) -> None:
    """The same steps of eight images, as two or as four micro-batches, and the same 33 validation images."""
    arguments = (str(tmp_path), accumulate)
    torch.multiprocessing.start_processes(run_process, arguments, nprocs=2, start_method="fork")
    alone = finetune(tmp_path / "one", accumulate_alone)
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(alone, abs=1e-4)  # in %
    two, one = weights(tmp_path / "two"), weights(tmp_path / "one")
    assert two.keys() == one.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=0, msg=name)
    assert 0 < alone["top5"] < 100
