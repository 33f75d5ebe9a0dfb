"""Segmentation end to end, on images whose colors are the classes."""

import copy
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.finetuning.layer_decay import LayerDecayOptim
from cim_lightning.evaluation.segmentation.crops import RandomScaleCrop
from cim_lightning.evaluation.segmentation.segmentation import (
    Segmentation,
    evenly_spaced,
    index_batches,
    mean_loss,
)
from cim_lightning.evaluation.segmentation.sliding_window import SlidingWindow
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.segmentation import LinearHead, UperNet
from cim_lightning.models.timm_backbone import TimmBackbone

PLAIN = {"positions": "timm", "freeze_patch_embed": False, "init": "timm"}
SIDE = 48
COLORS = np.array([[200, 40, 30], [40, 60, 220]])


class Tiles:
    """Noisy tiles of 16 x 16 pixels, red (class 0) or blue (1); the top of each mask is ignored."""

    def __init__(self, count: int, seed: int):
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]:
        rng = np.random.default_rng((self.seed, index))
        mask = rng.integers(0, 2, (3, 4)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
        pixels = (COLORS[mask] + rng.normal(0, 20, (*mask.shape, 3))).clip(0, 255).astype(np.uint8)
        mask[:2] = 255
        return Image.fromarray(pixels), mask


def tiles() -> Any:
    return SimpleNamespace(train=Tiles(12, 0), val=Tiles(5, 1), classes=["Red", "Blue"])


def vit(**kwargs) -> Backbone:
    shape = {"dynamic_img_size": True, "depth": 2, "embed_dim": 24, "num_heads": 2, "patch_size": 8}
    return TimmBackbone("vit_tiny_patch16_224", shape | kwargs, **PLAIN)


def context(folder: Path, backbone: Backbone, seed: int = 0, workers: int = 0) -> EvalContext:
    data = SimpleNamespace(num_workers=workers)
    return EvalContext(
        backbone.eval(),
        None,
        data,
        torch.device("cpu"),
        folder,
        seed,
        {"seed": seed},
    )


def optim(**changes) -> LayerDecayOptim:
    settings = {"lr": 5e-3, "layer_decay": 0.8, "weight_decay": 0.01, "optimizer": torch.optim.AdamW}
    settings |= {"lr_for": None}
    settings |= {"warmup": 0.1, "schedule": "linear"}
    return LayerDecayOptim(**settings | changes)


LINEAR = LinearHead
UPERNET = partial(UperNet, width=16, bins=(1, 2, 3), dropout=0.1)


def segmentation(**changes) -> Segmentation:
    settings = {"source": tiles, "head": LINEAR, "finetune": True, "steps": 40, "batch_size": 8}
    settings |= {
        "crops": RandomScaleCrop(32, SIDE, (0.75, 1.5), 0.5),
        "inference": SlidingWindow(SIDE, None, 0.5),
    }
    settings |= {"optim": optim(), "num_train": None, "num_val": None}
    return Segmentation(**settings | {"pictures": 0, "pictures_folder": "segmentation"} | changes)


@pytest.mark.parametrize(
    ("head", "finetune", "window", "backbone"),
    [
        (LINEAR, False, None, vit),
        (UPERNET, True, 32, vit),
        (UPERNET, True, None, lambda: TimmBackbone("resnet10t", {"channels": (8, 8, 16, 16)}, **PLAIN)),
    ],
    ids=["linear on a frozen vit", "upernet on a vit, sliding", "upernet on a resnet"],
)
def test_colors_are_learned_and_the_context_is_unchanged(
    tmp_path: Path, head: Any, finetune: bool, window: int | None, backbone: Any
) -> None:
    torch.manual_seed(0)
    built = context(tmp_path, backbone())
    before = copy.deepcopy(built.backbone.state_dict())
    rng_state = torch.get_rng_state()
    numbers = segmentation(
        head=head, finetune=finetune, inference=SlidingWindow(SIDE, window, 0.5), steps=60
    )(built)
    assert numbers["miou"] > 0.9, numbers
    assert set(numbers) == {"miou", "pixel_accuracy", "class_accuracy", "iou_red", "iou_blue"}
    assert torch.equal(torch.get_rng_state(), rng_state)
    assert all(torch.equal(value, before[name]) for name, value in built.backbone.state_dict().items())
    assert not any(module.training for module in built.backbone.modules())
    assert all(p.requires_grad and p.grad is None for p in built.backbone.parameters())


def test_metrics_depend_on_the_seed_and_not_on_the_number_of_workers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = vit(drop_path_rate=0.5)
    short = segmentation(steps=3, optim=optim(lr=1e-3))
    a = short(context(tmp_path, backbone, 1))
    torch.rand(1)  # advance the global generator
    b, c = (short(context(tmp_path, backbone, seed, workers=1)) for seed in (1, 2))
    assert a == b
    assert a != c


def test_pictures_have_image_mask_and_prediction_side_by_side(tmp_path: Path) -> None:
    segmentation(steps=1, pictures=2, num_val=3, pictures_folder="shown")(context(tmp_path, vit()))
    assert sorted(path.name for path in (tmp_path / "shown").iterdir()) == ["00000.png", "00002.png"]
    with Image.open(tmp_path / "shown" / "00002.png") as page:
        assert (page.mode, page.width) == ("RGB", 3 * 64)
        image, _ = Tiles(5, 1)[4]  # the last of 0, 2, 4
        assert np.array_equal(np.asarray(page)[:SIDE, :64], np.asarray(image))


def test_the_loss_is_the_mean_over_pixels_that_are_not_ignored() -> None:
    logits = torch.tensor([[[[0.0, 2.0, 9.0]], [[0.0, 0.0, -9.0]]]])
    masks = torch.tensor([[[1, 0, 255]]])
    expected = (np.log(2) + np.log(1 + np.exp(-2))) / 2
    assert mean_loss(logits, masks).item() == pytest.approx(expected, abs=1e-6)
    assert mean_loss(logits, torch.full_like(masks, 255)).item() == 0


def test_batches_follow_a_new_permutation_in_each_epoch() -> None:
    def batches_of(seed: int, start: int) -> list[tuple[int, ...]]:
        return list(index_batches(5, 3, seed, start, 4))

    batches = batches_of(7, 0)
    assert [len(batch) for batch in batches] == [3] * 4
    flat = [i for batch in batches for i in batch]
    assert sorted(flat[:5]) == sorted(flat[5:10]) == list(range(5))
    assert flat[:5] != flat[5:10]
    assert batches == batches_of(7, 0) != batches_of(8, 0)
    assert batches[3:] == batches_of(7, 3)


def test_evenly_spaced_indices_include_both_ends() -> None:
    assert (evenly_spaced(5, 3), evenly_spaced(5, 1), evenly_spaced(5, 0)) == ([0, 2, 4], [0], [])
    assert evenly_spaced(3, 3) == evenly_spaced(3, 9) == evenly_spaced(3, None) == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps=0: must be at least 1"),
        ({"batch_size": 1}, "batch_size=1: must be at least 2"),
        ({"num_val": 0}, "num_val=0: must be at least 1"),
        ({"pictures": -1}, "pictures=-1: must be at least 0"),
        ({"crops": RandomScaleCrop(30, SIDE, (1, 1), 0)}, "size=30: "),
        ({"inference": SlidingWindow(SIDE, 20, 0.5)}, "size=20: "),
    ],
)
def test_invalid_settings_raise_before_training(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}[^\n]*; try [^\n]*$"):
        segmentation(**changes)(context(tmp_path, vit()))


def test_a_backbone_with_a_fixed_size_raises_before_training_at_other_sizes(tmp_path: Path) -> None:
    fixed = vit(dynamic_img_size=False, img_size=32)
    with pytest.raises(ConfigError, match=r"^size=null: [^\n]*; try [^\n]*$"):
        segmentation()(context(tmp_path, fixed))
    segmentation(inference=SlidingWindow(SIDE, 32, 0.5), steps=1, num_val=1)(context(tmp_path, fixed))


@pytest.mark.parametrize("source", ["folder", "camvid", "ade20k", "voc"])
@pytest.mark.parametrize("head", ["linear", "upernet"])
def test_the_configurations_build_the_evaluator(tmp_path: Path, source: str, head: str) -> None:
    register_resolvers()
    overrides = ["evaluation=segmentation", f"evaluation/segmentation/source={source}"]
    overrides += [f"evaluation/segmentation/head={head}", f"evaluation.segmentation.source.root={tmp_path}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = compose("pretrain", overrides=overrides).evaluation.segmentation
    evaluator = instantiate(node)
    assert isinstance(evaluator, Segmentation)
    assert evaluator.inference.short_side == evaluator.crops.short_side == 512
    with pytest.raises(ConfigError, match=r"^(root|train)="):
        evaluator.source()
