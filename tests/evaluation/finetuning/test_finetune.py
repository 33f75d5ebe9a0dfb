"""Fine-tuning and probing as a whole, on a problem that colors solve."""

import copy
import os
import signal
from pathlib import Path
from typing import Any

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
from cim_lightning.data.sources import Splits
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.finetuning.classifier_training import ClassifierTraining
from cim_lightning.evaluation.finetuning.finetune import Finetune
from cim_lightning.evaluation.finetuning.layer_decay import LayerDecayOptim
from cim_lightning.evaluation.finetuning.mixup_cutmix import MixupCutmix
from cim_lightning.evaluation.logistic import LogisticRegression
from cim_lightning.models.backbone import Backbone

COLORS = [(200, 40, 30), (40, 200, 30), (40, 60, 220)]


class Plain:
    """Images of one color under noise; every third is of no known class, where `holes`."""

    def __init__(self, count: int, seed: int, holes: bool, known: bool = True):
        self.count, self.seed, self.holes, self.known = count, seed, holes, known
        self.classes = ["red", "green", "blue"] if known else None
        self.labels = np.array([self[i][1] for i in range(count)])

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        rng = np.random.default_rng((self.seed, index))
        label = int(rng.integers(3))
        pixels = (COLORS[label] + rng.normal(0, 20, (20, 24, 3))).clip(0, 255).astype(np.uint8)
        return Image.fromarray(pixels), -1 if not self.known or (self.holes and index % 3 == 0) else label


def data(holes: bool = False, known: bool = True, workers: int = 0) -> ImageData:
    splits = Splits(Plain(40, 0, holes, known), Plain(15, 1, holes, known))
    return ImageData(lambda: splits, lambda views, seed: views, 8, workers, 16, (1, 1), (1, 1), 0.0, 0)


def context(folder: Path, images: ImageData, seed: int = 0) -> EvalContext:
    torch.manual_seed(0)
    backbone = Backbone("test_resnet", {}, "timm", False, "timm").eval()
    return EvalContext(
        backbone, None, lambda x: 2 * x - 1, images, torch.device("cpu"), folder, seed, {"seed": seed}
    )


def training(**changes: Any) -> ClassifierTraining:
    optim = LayerDecayOptim(torch.optim.AdamW, 1e-2, None, 0.9, 0.05, 0.1, "cosine", 1.0)
    settings: dict[str, Any] = {"finetune": True, "global_pool": "mean", "drop_path": 0.1, "epochs": 4}
    settings |= {
        "batch_size": 8,
        "accumulate_grad_batches": 2,
        "aug_repeats": 1,
        "loss": nn.CrossEntropyLoss,
        "optim": optim,
    }
    settings |= {"view": RandAugmentCrop(16, (0.5, 1), (0.75, 1.33), 0.5, "rand-m2-mstd0.5-inc1")}
    settings |= {"mixing": MixupCutmix(0.25, 0.2, 0.2, 0.1), "ema": None, "num_train": None}
    return ClassifierTraining(**settings | changes)


@pytest.mark.parametrize(
    ("changes", "holes"),
    [
        ({}, False),
        ({"finetune": False, "epochs": 8}, False),
        ({"ema": 0.5, "accumulate_grad_batches": 1, "aug_repeats": 2}, True),
    ],
    ids=["fine-tuned", "probed", "averaged, a third unlabeled"],
)
def test_colors_are_learned_and_the_subject_stays_as_it_was(
    tmp_path: Path, changes: dict, holes: bool
) -> None:
    given = context(tmp_path, data(holes))
    before = copy.deepcopy(given.backbone.state_dict())
    numbers = Finetune(training(**changes), None)(given)
    assert numbers["top1"] > 0.9, numbers
    assert numbers["top5"] == 1  # of three classes
    assert all(torch.equal(value, before[name]) for name, value in given.backbone.state_dict().items())
    assert {path.name for path in tmp_path.glob("finetune.*")} == {"finetune.csv", "finetune.png"}


def test_the_seed_decides_and_the_number_of_workers_does_not(tmp_path: Path) -> None:
    few = training(epochs=1)
    found = []
    for i, (workers, seed) in enumerate(((0, 0), (1, 0), (0, 1))):
        found.append(few(context(tmp_path / str(i), data(workers=workers), seed)).state_dict())
        torch.rand(1)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not torch.equal(found[0]["head.1.weight"], found[2]["head.1.weight"])


def test_another_part_that_asks_for_the_same_trains_nothing(tmp_path: Path, monkeypatch) -> None:
    given = context(tmp_path, data())
    first = training(epochs=1)(given)
    monkeypatch.setattr(ClassifierTraining, "_trained", lambda *_: pytest.fail("trained again"))
    again = training(epochs=1)(given)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    assert not again.training
    other = context(tmp_path, data())
    other.origin = {"seed": 5}
    for asked, whose in ((training(epochs=2), given), (training(epochs=1), other)):
        with pytest.raises(pytest.fail.Exception, match="trained again"):
            asked(whose)


@pytest.mark.parametrize(
    ("number", "workers", "changes"),
    [(signal.SIGINT, 0, {}), (signal.SIGTERM, 1, {"ema": 0.5, "aug_repeats": 2})],
    ids=["ctrl-c", "sigterm, a worker, a moving average"],
)
def test_an_interrupted_training_goes_on(tmp_path, monkeypatch, number, workers, changes) -> None:
    def train(folder: str) -> Any:
        return training(epochs=2, **changes)(context(tmp_path / folder, data(workers=workers)))

    straight = train("straight")
    calls = []
    plain = MixupCutmix.__call__

    def breaks(self, *arguments):
        calls.append(1)
        if len(calls) == 7:  # in the fourth of ten steps
            os.kill(os.getpid(), number)
        return plain(self, *arguments)

    monkeypatch.setattr(MixupCutmix, "__call__", breaks)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train("broken")
    resumed = train("broken")
    assert len(calls) == 2 * 10  # two accumulate_grad_batches a step, none twice
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_batch_larger_than_the_data_is_all_of_it(tmp_path: Path) -> None:
    changes = {"epochs": 2, "aug_repeats": 1, "mixing": MixupCutmix(0.0, 0.0, 0.0, 0.0)}
    changes |= {"view": RandAugmentCrop(16, (1, 1), (1.2, 1.2), 0.0, None), "drop_path": 0.0}
    found = [
        training(batch_size=size, accumulate_grad_batches=1, **changes)(
            context(tmp_path / str(size), data())
        ).state_dict()
        for size in (40, 1000)
    ]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize(
    ("changes", "images", "told"),
    [
        ({"accumulate_grad_batches": 3}, {}, r"classifier\.accumulate_grad_batches=3: .*try [24]"),
        ({"accumulate_grad_batches": 8}, {}, r"classifier\.accumulate_grad_batches=8: .*try 4"),
        ({"batch_size": 1, "accumulate_grad_batches": 1}, {}, r"classifier\.batch_size=1: at least 2; try 2"),
        ({"epochs": 0}, {}, r"classifier\.epochs=0: .*try 1"),
        ({"num_train": 0}, {}, r"classifier\.num_train=0: .*try 2"),
        ({"ema": 1.0}, {}, r"classifier\.ema=1\.0: .*try"),
        ({}, {"known": False}, "data: a classifier needs labeled .*try"),
    ],
)
def test_a_mistake_gets_one_line(tmp_path: Path, changes: dict, images: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=f"^{told}"):
        training(**changes)(context(tmp_path, data(**images)))


PAPER = {
    "optimizer": "AdamW",
    "loss": "SoftTargetCrossEntropy",
    "rate": 4.8e-3,  # at 1,024 images
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
A3 = PAPER | {"optimizer": "Lamb", "loss": "BinaryCrossEntropy", "rate": 8e-3, "layer_decay": 1.0}
A3 |= {"weight_decay": 0.02, "batch_size": 2048, "randaugment": "rand-m6-mstd0.5-inc1", "erasing": 0.0}
A3 |= {"mixup": 0.1, "smoothing": 0.0, "drop_path": 0.0, "size": 160}
A2 = A3 | {"rate": 5e-3, "epochs": 300, "warmup": 5 / 300, "randaugment": "rand-m7-mstd0.5-inc1"}
A2 |= {"drop_path": 0.05, "size": None, "aug_repeats": 3}
PROBE = PAPER | {"optimizer": "Lars", "rate": 0.4, "layer_decay": 1.0, "weight_decay": 0.0, "warmup": 10 / 90}
PROBE |= {"epochs": 90, "batch_size": 4096, "randaugment": None, "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0}
PROBE |= {"smoothing": 0.0, "drop_path": 0.0, "finetune": False}
RECIPES = {"finetuned": PAPER, "rsb_a3": A3, "rsb_a2": A2, "probe": PROBE}


def made_by_configuration(name: str) -> Any:
    register_resolvers()
    overrides = ["evaluation=finetune", f"classifier@evaluation.finetune.classifier={name}", "data=synthetic"]
    overrides += ["checkpoint=x", "output_dir=x", "data.view_size=224"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return instantiate(compose("evaluate", overrides=overrides).evaluation.finetune)


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_hold_the_published_values(name: str) -> None:
    made = made_by_configuration(name).classifier
    head = nn.Linear(2, 2)
    built, _ = made.optim(Backbone("test_resnet", {}, "timm", False, "timm"), head, 1024, 10)
    loss = made.loss()
    found = {"optimizer": type(built).__name__, "loss": type(loss).__name__}
    found |= {"rate": pytest.approx(max(group["initial_lr"] for group in built.param_groups))}
    found |= {key: getattr(made.mixing, key) for key in ("erasing", "mixup", "cutmix", "smoothing")}
    found |= {key: getattr(made.optim, key) for key in ("layer_decay", "weight_decay")}
    found |= {
        key: getattr(made, key)
        for key in ("epochs", "batch_size", "drop_path", "finetune", "aug_repeats", "ema")
    }
    found |= {"randaugment": made.view.randaugment, "size": made.view.size}
    assert found | {"warmup": pytest.approx(made.optim.warmup)} == RECIPES[name]
    assert (list(made.view.scale), list(made.view.ratio)) == ([0.08, 1.0], pytest.approx([3 / 4, 4 / 3]))
    assert getattr(loss, "target_threshold", None) == (0.2 if "rsb" in name else None)


def test_the_probes_rate_adapts_to_each_layer_as_lars_says() -> None:
    optim = made_by_configuration("probe").classifier.optim
    optim.warmup = 0.0
    head = nn.Linear(2, 1, bias=False)
    head.weight.data = torch.tensor([[3.0, 4.0]])
    optimizer, _ = optim(
        Backbone("test_resnet", {}, "timm", False, "timm").requires_grad_(False), head, 256, 10
    )
    head.weight.grad = torch.tensor([[0.0, 2.0]])
    optimizer.step()
    step = 0.1 * 0.001 * 5 / 2  # rate, trust, the length of the weights over that of the gradient
    torch.testing.assert_close(head.weight.data, torch.tensor([[3.0, 4.0 - 2 * step]]))


def test_a_classifier_that_is_not_trained_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^classifier@evaluation\.finetune\.classifier: [^\n]*try"):
        Finetune(LogisticRegression(None, 0.0, 5), None)
