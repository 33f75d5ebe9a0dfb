"""Fine-tuning and probing as a whole, on a problem that colours solve."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image
from torch import nn

from cim_lightning.config import CONF, register_resolvers
from cim_lightning.data.augmentation import AugmentedView
from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.sources import Splits
from cim_lightning.errors import SettingError
from cim_lightning.evaluation.classifier import ClassifierTraining
from cim_lightning.evaluation.finetune import Finetune
from cim_lightning.evaluation.subject import Subject
from cim_lightning.evaluation.training.layerwise import Layerwise
from cim_lightning.evaluation.training.mixing import Mixing
from cim_lightning.models.backbone import Backbone

COLOURS = [(200, 40, 30), (40, 200, 30), (40, 60, 220)]


class Plain:
    """Images of one colour under noise; every third is of no known class, where `holes`."""

    def __init__(self, count: int, seed: int, holes: bool, known: bool = True):
        self.count, self.seed, self.holes, self.known = count, seed, holes, known
        self.classes = ["red", "green", "blue"] if known else None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        rng = np.random.default_rng((self.seed, index))
        label = int(rng.integers(3))
        pixels = (COLOURS[label] + rng.normal(0, 20, (20, 24, 3))).clip(0, 255).astype(np.uint8)
        return Image.fromarray(pixels), -1 if not self.known or (self.holes and index % 3 == 0) else label


def data(holes: bool = False, known: bool = True, workers: int = 0) -> ImageData:
    splits = Splits(Plain(40, 0, holes, known), Plain(15, 1, holes, known))
    return ImageData(lambda: splits, lambda views, seed: views, 8, workers, 16, (1, 1), (1, 1), 0.0, 0)


def subject(folder: Path, images: ImageData, seed: int = 0) -> Subject:
    torch.manual_seed(0)
    backbone = Backbone("test_resnet", {}, 3, "timm", False, "timm").eval()
    return Subject(
        backbone, None, lambda x: 2 * x - 1, images, torch.device("cpu"), folder, seed, {"seed": seed}
    )


def training(**changes: Any) -> ClassifierTraining:
    optim = Layerwise(torch.optim.AdamW, 1e-2, None, 0.9, 0.05, 0.1, "cosine", 1.0)
    settings: dict[str, Any] = {"finetune": True, "reads": "mean", "drop_path": 0.1, "epochs": 4}
    settings |= {"batch_size": 8, "pieces": 2, "repeats": 1, "loss": nn.CrossEntropyLoss, "optim": optim}
    settings |= {"view": AugmentedView(16, (0.5, 1), (0.75, 1.33), 0.5, "rand-m2-mstd0.5-inc1")}
    settings |= {"mixing": Mixing(0.25, 0.2, 0.2, 0.1), "ema": None, "num_train": None}
    return ClassifierTraining(**settings | changes)


@pytest.mark.parametrize(
    ("changes", "holes"),
    [({}, False), ({"finetune": False, "epochs": 8}, False), ({"ema": 0.5, "pieces": 1, "repeats": 2}, True)],
    ids=["fine-tuned", "probed", "averaged, a third unlabelled"],
)
def test_colours_are_learnt_and_the_subject_stays_as_it_was(
    tmp_path: Path, changes: dict, holes: bool
) -> None:
    given = subject(tmp_path, data(holes))
    before = copy.deepcopy(given.backbone.state_dict())
    numbers = Finetune(training(**changes), None)(given)
    assert numbers["top1"] > 0.9, numbers
    assert numbers["top5"] == 1
    assert all(torch.equal(value, before[name]) for name, value in given.backbone.state_dict().items())
    assert {path.name for path in tmp_path.glob("finetune.*")} == {"finetune.csv", "finetune.png"}


def test_the_seed_decides_and_the_number_of_workers_does_not(tmp_path: Path) -> None:
    few = training(epochs=1)
    found = []
    for i, (workers, seed) in enumerate(((0, 0), (1, 0), (0, 1))):
        found.append(few(subject(tmp_path / str(i), data(workers=workers), seed)).state_dict())
        torch.rand(1)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not torch.equal(found[0]["head.1.weight"], found[2]["head.1.weight"])


def test_another_part_that_asks_for_the_same_trains_nothing(tmp_path: Path, monkeypatch) -> None:
    given = subject(tmp_path, data())
    first = training(epochs=1)(given)
    monkeypatch.setattr(ClassifierTraining, "_trained", lambda *_: pytest.fail("trained again"))
    again = training(epochs=1)(given)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    assert not again.training
    other = subject(tmp_path, data())
    other.origin = {"seed": 5}
    for asked, whose in ((training(epochs=2), given), (training(epochs=1), other)):
        with pytest.raises(pytest.fail.Exception, match="trained again"):
            asked(whose)


def test_an_interrupted_training_goes_on(tmp_path: Path, monkeypatch) -> None:
    straight = training(epochs=2)(subject(tmp_path / "straight", data()))
    calls = []
    plain = Mixing.__call__

    def breaks(self, *arguments):
        calls.append(1)
        if len(calls) == 7:  # in the fourth of ten steps
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)
        return plain(self, *arguments)

    monkeypatch.setattr(Mixing, "__call__", breaks)
    with pytest.raises(KeyboardInterrupt):
        training(epochs=2)(subject(tmp_path / "broken", data()))
    resumed = training(epochs=2)(subject(tmp_path / "broken", data()))
    assert len(calls) == 2 * 10  # two pieces a step, none twice
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_batch_larger_than_the_data_is_all_of_it(tmp_path: Path) -> None:
    changes = {"epochs": 2, "repeats": 1, "mixing": Mixing(0.0, 0.0, 0.0, 0.0)}
    changes |= {"view": AugmentedView(16, (1, 1), (1.2, 1.2), 0.0, None), "drop_path": 0.0}
    found = [
        training(batch_size=size, pieces=1, **changes)(subject(tmp_path / str(size), data())).state_dict()
        for size in (40, 1000)
    ]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize(
    ("changes", "images", "told"),
    [
        ({"pieces": 3}, {}, r"classifier\.pieces=3: .*nearest: [24]"),
        ({"pieces": 8}, {}, r"classifier\.pieces=8: .*nearest: 4"),
        ({"batch_size": 1, "pieces": 1}, {}, r"classifier\.batch_size=1: at least 2; nearest: 2"),
        ({"epochs": 0}, {}, r"classifier\.epochs=0: .*nearest: 1"),
        ({"ema": 1.0}, {}, r"classifier\.ema=1\.0: .*nearest"),
        ({}, {"known": False}, "data: a classifier needs labelled .*nearest"),
    ],
)
def test_a_mistake_gets_one_line(tmp_path: Path, changes: dict, images: dict, told: str) -> None:
    with pytest.raises(SettingError, match=f"^{told}"):
        training(**changes)(subject(tmp_path, data(**images)))


RECIPES = {  # optimizer, loss, rate at 1,024 images, layer decay, epochs, RandAugment
    "finetuned": ("AdamW", "SoftTargetCrossEntropy", 4.8e-3, 0.8, 100, "rand-m9-mstd0.5-inc1"),
    "rsb_a3": ("Lamb", "BinaryCrossEntropy", 8e-3, 1, 100, "rand-m6-mstd0.5-inc1"),
    "rsb_a2": ("Lamb", "BinaryCrossEntropy", 5e-3, 1, 300, "rand-m7-mstd0.5-inc1"),
    "probe": ("Lars", "SoftTargetCrossEntropy", 0.4, 1, 90, None),
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_hold_the_published_values(name: str) -> None:
    register_resolvers()
    overrides = ["evaluation=finetune", f"classifier@evaluation.finetune.classifier={name}", "data=synthetic"]
    overrides += ["checkpoint=x", "output_dir=x", "data.view_size=224"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        made = instantiate(compose("evaluate", overrides=overrides).evaluation.finetune).classifier
    optimizer, loss, rate, decay, epochs, randaugment = RECIPES[name]
    head = nn.Linear(2, 2)
    built, _ = made.optim(Backbone("test_resnet", {}, 3, "timm", False, "timm"), head, 1024, 10)
    assert type(built).__name__ == optimizer
    assert type(made.loss()).__name__ == loss
    assert max(group["initial_lr"] for group in built.param_groups) == pytest.approx(rate)
    assert (made.optim.layer_decay, made.epochs, made.view.randaugment) == (decay, epochs, randaugment)
    assert made.finetune == (name != "probe")
    assert made.view.size == (160 if name == "rsb_a3" else 224)
    assert made.repeats == (3 if name == "rsb_a2" else 1)
