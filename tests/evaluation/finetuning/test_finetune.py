"""Fine-tuning and probing end to end, on images whose color is the class."""

import copy
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image
from torch import nn

from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.data.augmentation import RandAugmentCrop
from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.source import Splits
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.finetuning.classifier_training import ClassifierTraining
from cim_lightning.evaluation.finetuning.finetune import Finetune
from cim_lightning.evaluation.finetuning.layer_decay import LayerDecayOptim
from cim_lightning.evaluation.finetuning.mixup_cutmix import MixupCutmix
from cim_lightning.evaluation.logistic import LogisticRegression
from cim_lightning.evaluation.trainer_factory import TrainerFactory
from cim_lightning.models.timm_backbone import TimmBackbone

COLORS = [(200, 40, 30), (40, 200, 30), (40, 60, 220)]


class ColorImages:
    """Noisy images of one color; with `unlabeled`, every third image has no label."""

    def __init__(self, count: int, seed: int, unlabeled: bool, classes: bool = True):
        self.count, self.seed, self.unlabeled = count, seed, unlabeled
        self.classes = ["red", "green", "blue"] if classes else None
        self.labels = np.array([self[i][1] for i in range(count)])

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        rng = np.random.default_rng((self.seed, index))
        label = int(rng.integers(3))
        pixels = (COLORS[label] + rng.normal(0, 20, (20, 24, 3))).clip(0, 255).astype(np.uint8)
        hidden = self.classes is None or (self.unlabeled and index % 3 == 0)
        return Image.fromarray(pixels), -1 if hidden else label


def data(unlabeled: bool = False, classes: bool = True, workers: int = 0) -> ImageData:
    splits = Splits(ColorImages(40, 0, unlabeled, classes), ColorImages(15, 1, unlabeled, classes))
    return ImageData(lambda: splits, lambda views, seed: views, 8, workers, 16, (1, 1), (1, 1), 0.0, 0)


def context(folder: Path, images: ImageData, seed: int = 0, weights: int = 0, **trainer: Any) -> EvalContext:
    torch.manual_seed(weights)
    backbone = TimmBackbone("test_resnet", {}, "timm", False, "timm").eval()
    device = {"accelerator": "cpu", "devices": 1, "enable_model_summary": False, "log_every_n_steps": 1}
    factory = TrainerFactory(partial(L.Trainer, **device | {"accumulate_grad_batches": 2} | trainer))
    return EvalContext(backbone, None, images, torch.device("cpu"), folder, seed, {}, trainer=factory)


def training(**changes: Any) -> ClassifierTraining:
    optim = LayerDecayOptim(torch.optim.AdamW, 1e-2, None, 0.9, 0.05, 0.1, "cosine")
    settings: dict[str, Any] = {"finetune": True, "features": "mean", "drop_path": 0.1, "epochs": 4}
    settings |= {
        "batch_size": 8,
        "aug_repeats": 1,
        "loss": nn.CrossEntropyLoss,
        "optim": optim,
    }
    settings |= {"view": RandAugmentCrop(16, (0.5, 1), (0.75, 1.33), 0.5, "rand-m2-mstd0.5-inc1")}
    settings |= {"mixing": MixupCutmix(0.25, 0.2, 0.2, 0.1), "ema": None, "num_train": None}
    return ClassifierTraining(**settings | changes)


@pytest.mark.parametrize(
    ("changes", "unlabeled"),
    [
        ({}, False),
        ({"finetune": False, "epochs": 8}, False),
        ({"ema": 0.5, "aug_repeats": 2, "epochs": 12}, True),
    ],
    ids=["fine-tuned", "probed", "weight average, a third unlabeled"],
)
def test_colors_are_learned_and_the_context_is_unchanged(
    tmp_path: Path, changes: dict, unlabeled: bool
) -> None:
    built = context(tmp_path, data(unlabeled))
    before = copy.deepcopy(built.backbone.state_dict())
    numbers = Finetune(training(**changes), None)(built)
    assert 90 < numbers["top1"] <= 100, numbers
    assert numbers["top5"] == 100  # of three classes
    assert all(torch.equal(value, before[name]) for name, value in built.backbone.state_dict().items())


def test_weights_depend_on_the_seed_and_not_on_the_number_of_workers(tmp_path: Path) -> None:
    short = training(epochs=1)
    weights = []
    for i, (workers, seed) in enumerate(((0, 0), (1, 0), (0, 1))):
        weights.append(short(context(tmp_path / str(i), data(workers=workers), seed)).state_dict())
        torch.rand(1)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["head.1.weight"], weights[2]["head.1.weight"])


def test_a_finished_training_is_reused_if_everything_is_the_same(tmp_path: Path, monkeypatch) -> None:
    first = training(epochs=1)(context(tmp_path, data()))
    fits = []
    monkeypatch.setattr(L.Trainer, "fit", lambda *_, **__: fits.append(1))
    again = training(epochs=1)(context(tmp_path, data()))
    assert not fits
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    assert not again.training
    other_data = context(tmp_path, data())
    other_data.cache_key = {"data": "another"}
    others = [
        (training(epochs=2), context(tmp_path, data())),
        (training(epochs=1, ema=0.5), context(tmp_path, data())),
        (training(epochs=1, num_train=20), context(tmp_path, data())),
        (training(epochs=1), context(tmp_path, data(), seed=1)),
        (training(epochs=1), context(tmp_path, data(), weights=1)),
        (training(epochs=1), context(tmp_path, data(), gradient_clip_val=1.0)),
        (training(epochs=1), context(tmp_path, data(), precision="bf16-mixed")),
        (training(epochs=1), context(tmp_path, data(unlabeled=True))),
        (training(epochs=1), other_data),
    ]
    for changed, on in others:
        changed(on)
    assert len(fits) == len(others)


@pytest.mark.parametrize(
    ("number", "workers", "changes"),
    [(signal.SIGINT, 0, {}), (signal.SIGTERM, 1, {"ema": 0.5, "aug_repeats": 2})],
    ids=["ctrl-c", "sigterm, one worker, weight average"],
)
def test_an_interrupted_training_resumes(tmp_path, monkeypatch, number, workers, changes) -> None:
    def train(folder: str) -> Any:
        return training(epochs=2, **changes)(context(tmp_path / folder, data(workers=workers)))

    uninterrupted = train("uninterrupted")
    calls = []
    original = MixupCutmix.__call__

    def interrupt(self, *args):
        calls.append(1)
        if len(calls) == 7:  # in the fourth of ten steps
            os.kill(os.getpid(), number)
        return original(self, *args)

    monkeypatch.setattr(MixupCutmix, "__call__", interrupt)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train("interrupted")
    resumed = train("interrupted")
    assert len(calls) == 2 * 10  # two micro-batches per step, none repeated
    (folder,) = (tmp_path / "interrupted" / "classifiers").iterdir()
    assert {path.name for path in folder.iterdir()} == {"weights.safetensors", "training.json"}
    for name, value in uninterrupted.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_batch_size_above_the_number_of_images_uses_all_images(tmp_path: Path) -> None:
    changes = {"epochs": 2, "aug_repeats": 1, "mixing": MixupCutmix(0.0, 0.0, 0.0, 0.0)}
    changes |= {"view": RandAugmentCrop(16, (1, 1), (1.2, 1.2), 0.0, None), "drop_path": 0.0}
    weights = [
        training(batch_size=size, **changes)(context(tmp_path / str(size), data())).state_dict()
        for size in (40, 1000)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("changes", "images", "message"),
    [
        ({"batch_size": 9}, {}, "batch_size=9: .*; try batch_size=8$"),
        ({"batch_size": 2}, {}, "batch_size=2: .*; try batch_size=4$"),
        ({"batch_size": 1}, {}, "batch_size=1: must be at least 2; try batch_size=2$"),
        ({"num_train": 3}, {}, "3 labeled training images; at least 4 are needed$"),
        ({"epochs": 0}, {}, "epochs=0: .*; try epochs=1$"),
        ({"num_train": 0}, {}, "num_train=0: .*; try num_train=2$"),
        ({"ema": 1.0}, {}, r"ema=1\.0: .*; try ema=0\.9$"),
        (
            {},
            {"classes": False},
            "a classifier needs labels of two classes or more; use class folders$",
        ),
    ],
)
def test_invalid_settings_raise(tmp_path: Path, changes: dict, images: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        training(**changes)(context(tmp_path, data(**images)))


PAPER = {
    "optimizer": "AdamW",
    "loss": "SoftTargetCrossEntropy",
    "lr": 4.8e-3,  # at a batch size of 1,024
    "layer_decay": 0.8,
    "weight_decay": 0.05,
    "warmup": 5 / 100,
    "epochs": 100,
    "batch_size": 1024,
    "randaugment": "rand-m9-mstd0.5-inc1",
    "erasing": 0.25,
    "mixup": 0.8,
    "cutmix": 1.0,
    "smoothing": 0.1,
    "drop_path": 0.1,
    "finetune": True,
    "size": None,
    "aug_repeats": 1,
    "ema": None,
}
A3 = PAPER | {"optimizer": "Lamb", "loss": "BinaryCrossEntropy", "lr": 8e-3, "layer_decay": 1.0}
A3 |= {"weight_decay": 0.02, "batch_size": 2048, "randaugment": "rand-m6-mstd0.5-inc1", "erasing": 0.0}
A3 |= {"mixup": 0.1, "smoothing": 0.0, "drop_path": 0.0, "size": 160}
A2 = A3 | {"lr": 5e-3, "epochs": 300, "warmup": 5 / 300, "randaugment": "rand-m7-mstd0.5-inc1"}
A2 |= {"drop_path": 0.05, "size": None, "aug_repeats": 3}
PROBE = PAPER | {"optimizer": "Lars", "lr": 0.4, "layer_decay": 1.0, "weight_decay": 0.0, "warmup": 10 / 90}
PROBE |= {"epochs": 90, "batch_size": 4096, "randaugment": None, "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0}
PROBE |= {"smoothing": 0.0, "drop_path": 0.0, "finetune": False}
RECIPES = {"finetuned": PAPER, "rsb_a3": A3, "rsb_a2": A2, "probe": PROBE}


def from_config(name: str) -> Any:
    register_resolvers()
    overrides = ["evaluation=finetune", f"classifier@evaluation.finetune.classifier={name}", "data=synthetic"]
    overrides += ["checkpoint=x", "output_dir=x", "data.view_size=224"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return instantiate(compose("evaluate", overrides=overrides).evaluation.finetune)


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_have_the_published_values(name: str) -> None:
    recipe = from_config(name).classifier
    head = nn.Linear(2, 2)
    optimizer, _ = recipe.optim(TimmBackbone("test_resnet", {}, "timm", False, "timm"), head, 1024, 10)
    loss = recipe.loss()
    values = {"optimizer": type(optimizer).__name__, "loss": type(loss).__name__}
    values |= {"lr": pytest.approx(max(group["initial_lr"] for group in optimizer.param_groups))}
    values |= {key: getattr(recipe.mixing, key) for key in ("erasing", "mixup", "cutmix", "smoothing")}
    values |= {key: getattr(recipe.optim, key) for key in ("layer_decay", "weight_decay")}
    values |= {
        key: getattr(recipe, key)
        for key in ("epochs", "batch_size", "drop_path", "finetune", "aug_repeats", "ema")
    }
    values |= {"randaugment": recipe.view.randaugment, "size": recipe.view.size}
    assert values | {"warmup": pytest.approx(recipe.optim.warmup)} == RECIPES[name]
    assert (list(recipe.view.scale), list(recipe.view.ratio)) == ([0.08, 1.0], pytest.approx([3 / 4, 4 / 3]))
    assert getattr(loss, "target_threshold", None) == (0.2 if "rsb" in name else None)


def test_the_probe_scales_its_learning_rate_by_lars() -> None:
    optim = from_config("probe").classifier.optim
    optim.warmup = 0.0
    head = nn.Linear(2, 1, bias=False)
    head.weight.data = torch.tensor([[3.0, 4.0]])
    optimizer, _ = optim(
        TimmBackbone("test_resnet", {}, "timm", False, "timm").requires_grad_(False), head, 256, 10
    )
    head.weight.grad = torch.tensor([[0.0, 2.0]])
    optimizer.step()
    step = 0.1 * 0.001 * 5 / 2  # lr, trust coefficient, norm of the weights over the norm of the gradient
    torch.testing.assert_close(head.weight.data, torch.tensor([[3.0, 4.0 - 2 * step]]))


def test_a_classifier_that_is_not_trained_on_views_raises() -> None:
    with pytest.raises(ConfigError, match=r"^classifier=LogisticRegression: [^\n]*; choose "):
        Finetune(LogisticRegression("mean", None, 0.0, 5), None)
