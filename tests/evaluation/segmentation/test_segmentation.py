"""Segmentation end to end, on images whose colors are the classes."""

import copy
import os
import re
import signal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.data.loader import Loading
from cim_lightning.data.segmentation import SegmentationSplits
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext, Evaluator
from cim_lightning.evaluation.dense import Dense
from cim_lightning.evaluation.finetuning.layer_decay import LayerDecayOptim
from cim_lightning.evaluation.segmentation.crops import RandomScaleCrop
from cim_lightning.evaluation.segmentation.module import SegmentationModule, pixel_loss
from cim_lightning.evaluation.segmentation.segmentation import Segmentation
from cim_lightning.evaluation.segmentation.sliding_window import SlidingWindow
from cim_lightning.evaluation.trainer_factory import TrainerFactory
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


def tiles() -> SegmentationSplits:
    return SegmentationSplits(Tiles(12, 0), Tiles(5, 1), ["Red", "Blue"])


def vit(**kwargs) -> Backbone:
    shape = {"dynamic_img_size": True, "depth": 2, "embed_dim": 24, "num_heads": 2, "patch_size": 8}
    return TimmBackbone("vit_tiny_patch16_224", shape | kwargs, **PLAIN)


def context(folder: Path, backbone: Backbone, seed: int = 0, workers: int = 0, **trainer: Any) -> EvalContext:
    data = SimpleNamespace(loading=Loading(workers, None), view=SimpleNamespace(size=16))
    settings = {"accelerator": "cpu", "devices": 1, "enable_model_summary": False, **trainer}
    factory = TrainerFactory(partial(L.Trainer, **settings))
    cpu = torch.device("cpu")
    return EvalContext(backbone.eval(), None, data, cpu, folder, seed, {"seed": seed}, trainer=factory)


def optim(**changes) -> LayerDecayOptim:
    settings = {"lr": 5e-3, "layer_decay": 0.8, "weight_decay": 0.01, "optimizer": torch.optim.AdamW}
    settings |= {"lr_for": None}
    settings |= {"warmup": 0.1, "schedule": "linear"}
    return LayerDecayOptim(**settings | changes)


class HeadWithoutNorm(LinearHead):
    """Without batch normalization, a training does not depend on the size of the micro-batches."""

    def __init__(self, backbone: Backbone, num_classes: int):
        super().__init__(backbone, num_classes)
        self.norm = nn.Identity()


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
    numbers = segmentation(head=head, finetune=finetune, inference=SlidingWindow(SIDE, window, 0.5))(built)
    assert numbers["miou"] > 90, numbers
    assert set(numbers) == {"miou", "pixel_accuracy", "class_accuracy", "iou_red", "iou_blue"}
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


def test_the_loss_is_the_mean_over_all_pixels() -> None:
    logits = torch.tensor([[[[0.0, 2.0, 9.0]], [[0.0, 0.0, -9.0]]]])
    masks = torch.tensor([[[1, 0, 255]]])
    expected = (np.log(2) + np.log(1 + np.exp(-2))) / 3
    assert pixel_loss(logits, masks).item() == pytest.approx(expected, abs=1e-6)
    assert pixel_loss(logits, torch.full_like(masks, 255)).item() == 0
    parts = [pixel_loss(logits[..., i : i + 1], masks[..., i : i + 1]) for i in range(3)]
    assert torch.stack(parts).mean().item() == pytest.approx(expected, abs=1e-6)


def trained(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("segmenters/*/weights.safetensors")
    return load_file(path)


def test_an_interrupted_training_resumes_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    backbone, steps = vit(drop_path_rate=0.5), []
    evaluator = segmentation(steps=6, batch_size=4, head=UPERNET)  # a step has images of two epochs
    numbers = evaluator(context(tmp_path / "whole", backbone))
    step = SegmentationModule.training_step

    def interrupted(self: Any, batch: Any, batch_idx: int) -> torch.Tensor:
        steps.append(self.global_step)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SegmentationModule, "training_step", interrupted)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        evaluator(context(tmp_path / "resumed", backbone))
    assert evaluator(context(tmp_path / "resumed", backbone)) == numbers
    assert steps == [0, 1, 2, 3, 4, 5]
    whole, resumed = trained(tmp_path / "whole"), trained(tmp_path / "resumed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert evaluator(context(tmp_path / "resumed", backbone)) == numbers  # without training
    assert len(steps) == 6


def test_accumulated_batches_give_the_same_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = vit()
    # With 16 as the batch size of lr, the rate of a micro-batch would differ.
    evaluator = segmentation(steps=4, batch_size=8, head=HeadWithoutNorm, optim=optim(lr_for=16, lr=1e-2))
    for folder, batches in (("one", 1), ("four", 4)):
        evaluator(context(tmp_path / folder, backbone, accumulate_grad_batches=batches))
    one, four = trained(tmp_path / "one"), trained(tmp_path / "four")
    before = backbone.state_dict()["model.blocks.0.mlp.fc1.weight"]
    assert (one["model.backbone.model.blocks.0.mlp.fc1.weight"] - before).abs().max() > 1e-3
    for name in one:
        torch.testing.assert_close(one[name], four[name], atol=1e-5, rtol=0)


def test_a_step_must_be_divisible_into_batches_of_two(tmp_path: Path) -> None:
    message = r"^batch_size=8: must be divisible into 3 batches of two or more[^\n]*; try batch_size=9$"
    with pytest.raises(ConfigError, match=message):
        segmentation()(context(tmp_path, vit(), accumulate_grad_batches=3))
    with pytest.raises(ConfigError, match=r"into 8 batches[^\n]*; try batch_size=16$"):
        segmentation()(context(tmp_path, vit(), accumulate_grad_batches=8))


def test_it_applies_with_masks_only_and_records_its_protocol(tmp_path: Path) -> None:
    assert isinstance(segmentation(), Evaluator)
    built = context(tmp_path, vit())
    assert segmentation().applies(built) is None
    assert segmentation(source=None).applies(built) == "needs images with masks"
    # 40 steps of 8 crops have 4 times the pixels of a view; 5 images have 48 * 64 pixels.
    assert segmentation().forward_passes(built) == pytest.approx(3 * 320 * 4 + 5 * 12)
    assert segmentation(finetune=False, num_val=1).forward_passes(built) == pytest.approx(320 * 4 + 12)
    segmentation(steps=1, num_train=8, num_val=2)(built)
    assert [built.protocol[key] for key in ("steps", "train_images", "val_images")] == [1, 8, 2]


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
def test_the_configurations_build_the_evaluators(tmp_path: Path, source: str, head: str) -> None:
    register_resolvers()
    overrides = ["evaluation=[segmentation,dense]", f"evaluation/segmentation/head={head}"]
    data = [f"segmentation_data={source}", f"segmentation_data.root={tmp_path}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        without = compose("pretrain", overrides=overrides).evaluation
        nodes = compose("pretrain", overrides=[*overrides, *data]).evaluation
        assert (without.segmentation.source, without.dense.source) == (None, None)
        evaluator, dense = (instantiate(node, _convert_="all") for node in (nodes.segmentation, nodes.dense))
    assert isinstance(evaluator, Segmentation)
    assert isinstance(dense, Dense)
    assert evaluator.inference.short_side == evaluator.crops.short_side == 512
    for part in (evaluator, dense):
        with pytest.raises(ConfigError, match=r"^(root|train)="):
            part.source()
