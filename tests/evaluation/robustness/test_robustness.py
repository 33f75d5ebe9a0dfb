"""The parts "robustness" and "domain_shift" on classifiers whose answers are known."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.utils.data import DataLoader

from cim_lightning.config.compose import CONF
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.logistic import LogisticRegression
from cim_lightning.evaluation.robustness.corruption_error import CorruptionBaseline, measured
from cim_lightning.evaluation.robustness.domain_shift import DomainShift
from cim_lightning.evaluation.robustness.robustness import Robustness
from cim_lightning.models.backbone import Backbone

LEVELS = (100, 155)  # of a dark and a light image: 27.5 gray levels from the middle


class LabeledDataset(list):  # type: ignore[type-arg]
    """Images and labels, of two classes."""

    classes = ("dark", "light")


class Walls:
    """Plain walls, dark (label 0) or light (1), as an ImageData gives images; `swap` exchanges labels."""

    def __init__(
        self, count: int = 20, swap: bool = False, unlabeled: bool = False, levels: tuple[int, int] = LEVELS
    ):
        labels = torch.arange(count) % 2
        views = torch.tensor(levels, dtype=torch.uint8)[labels][:, None, None, None].expand(-1, 3, 32, 32)
        truth = torch.full_like(labels, -1) if unlabeled else (1 - labels if swap else labels)
        self.images = [(view, int(label)) for view, label in zip(views, truth, strict=True)]
        self.splits = SimpleNamespace(train=LabeledDataset(self.images), val=LabeledDataset(self.images))
        self.source, self.view = "walls", SimpleNamespace(size=32)

    def center_crop_dataloader(self, split: str, limit: int | None) -> DataLoader[Any]:
        return DataLoader(self.images[:limit], batch_size=8)  # pyright: ignore


def context(folder: Path, data: Walls) -> EvalContext:
    torch.manual_seed(0)
    backbone = Backbone("test_resnet", {}, "timm", False, "timm").eval()
    return EvalContext(backbone, None, nn.Identity(), data, torch.device("cpu"), folder, 0, {})


def by_mean(context: EvalContext) -> nn.Module:
    """Says light if the mean is above the middle, 127.5."""
    layer = nn.Linear(3 * 32 * 32, 2)
    with torch.no_grad():
        layer.weight[0], layer.weight[1] = -1 / 3072, 1 / 3072
        layer.bias[0], layer.bias[1] = 0.5, -0.5
    return nn.Sequential(nn.Flatten(), layer)


def settings(**changed: Any) -> dict[str, Any]:
    asked: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(CONF / "evaluation/robustness.yaml"))[
        "robustness"
    ]  # type: ignore
    del asked["_target_"]
    return asked | {"classifier": by_mean} | changed


def test_a_threshold_falls_when_the_radius_passes_it(tmp_path):
    part = Robustness(**settings(radii=[20, 27, 28], corruptions=["brightness", "contrast"]))
    numbers = part(context(tmp_path, Walls()))
    assert numbers["accuracy_clean"] == 1
    for attack in ("fgsm", "pgd"):
        assert [numbers[f"accuracy_{attack}_{r}"] for r in ("20", "27", "28")] == [1, 1, 0]
    # Contrast leaves a wall as it is, and 0.1 makes a dark wall's 100 no more than 125.5; 0.2 makes it light.
    table = list(csv.reader((tmp_path / "robustness" / "corruptions.csv").read_text().splitlines()))[1:]
    assert [float(row[2]) for row in table if row[0] == "brightness"] == [1, 1, 0.5, 0.5, 0.5, 0.5]
    assert [float(row[2]) for row in table if row[0] == "contrast"] == [1] * 6
    assert numbers["error_brightness"] == pytest.approx(0.4)
    assert numbers["error_contrast"] == 0
    assert numbers["mean_error_corrupted"] == pytest.approx(0.2)
    assert [numbers[f"accuracy_severity_{s}"] for s in (1, 2, 5)] == [1, 0.75, 0.75]
    # A wall is its own mean, in any order.
    assert {
        numbers[f"accuracy_{probe}"] for probe in ("drop_0.25", "drop_0.75", "shuffle_2", "shuffle_8")
    } == {1}
    assert "mce" not in numbers
    assert (tmp_path / "robustness" / "severity.png").stat().st_size > 10_000


def test_corruption_errors_beside_a_baseline(tmp_path):
    baseline = CorruptionBaseline("by hand", 0, {"brightness": 0.8, "contrast": 0.5})
    part = Robustness(**settings(radii=[], corruptions=["brightness", "contrast"], baseline=baseline))
    numbers = part(context(tmp_path, Walls()))
    assert numbers["mce"] == pytest.approx((50 + 0) / 2)
    assert numbers["relative_mce"] == pytest.approx((50 + 0) / 2)
    (tmp_path / "metrics.json").write_text(json.dumps({f"robustness/{k}": v for k, v in numbers.items()}))
    other = measured(str(tmp_path / "metrics.json"), "robustness")
    assert other.clean == 0
    assert other.errors == pytest.approx({"brightness": 0.4, "contrast": 0})


def test_nothing_is_relative_to_a_baseline_that_does_not_suffer(tmp_path):
    baseline = CorruptionBaseline("by hand", 0.5, {"brightness": 0.8, "contrast": 0.5})
    part = Robustness(**settings(radii=[], corruptions=["brightness", "contrast"], baseline=baseline))
    numbers = part(context(tmp_path, Walls()))
    assert numbers["mce"] == pytest.approx(25)
    assert "relative_mce" not in numbers


def test_the_probe_is_fitted_and_leaves_the_backbone_as_it_was(tmp_path):
    whole = context(tmp_path, Walls())
    before = {name: value.clone() for name, value in whole.backbone.state_dict().items()}
    probe = LogisticRegression(num_train=None, weight_decay=1e-3, steps=50)
    numbers = Robustness(**settings(classifier=probe, radii=[1, 100], corruptions=["contrast"]))(whole)
    assert numbers["accuracy_clean"] == 1
    assert numbers["accuracy_pgd_100"] < 1
    assert all(torch.equal(before[name], value) for name, value in whole.backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in whole.backbone.parameters())


def test_numbers_do_not_depend_on_what_was_drawn_before(tmp_path):
    part = Robustness(**settings(radii=[], corruptions=["gaussian_noise", "shot_noise"]))
    close = Walls(40, levels=(127, 128))  # so close to the middle that a little noise decides
    one = part(context(tmp_path, close))
    assert 0.5 < one["accuracy_severity_5"] < 1
    torch.rand(7)
    assert part(context(tmp_path, close)) == one
    other = context(tmp_path, close)
    other.seed = 1
    assert part(other) != one


@pytest.mark.parametrize("limit", [None, 6])
def test_domains_are_tried_with_the_classifier_of_one(tmp_path, limit):
    domains = {"photo": Walls(), "mirror": Walls(swap=True), "same": Walls(12)}
    probe = LogisticRegression(num_train=None, weight_decay=1e-3, steps=50)
    elsewhere = context(tmp_path, Walls(swap=True))  # whose own images must not be what is learned from
    elsewhere.features("train", None)
    numbers = DomainShift(probe, domains, "photo", limit)(elsewhere)
    assert numbers == {"accuracy_photo": 1, "accuracy_mirror": 0, "accuracy_same": 1, "accuracy_others": 0.5}


def test_mistakes_are_told(tmp_path):
    with pytest.raises(ConfigError, match=r"robustness\.corruptions=\['frst'\]: .*frost"):
        Robustness(**settings(corruptions=["frst"]))
    with pytest.raises(ConfigError, match=r"robustness\.radii=\[256\]: .*try 255"):
        Robustness(**settings(radii=[1, 256]))
    with pytest.raises(ConfigError, match=r"baseline\.errors\.fog=None"):
        Robustness(**settings(corruptions=["fog"], baseline=CorruptionBaseline("by hand", 0, {})))
    with pytest.raises(ConfigError, match=r"weight_decay=-1\.0: .*try 0"):
        LogisticRegression(None, -1.0, 50)
    with pytest.raises(ConfigError, match=r"steps=0: .*try 1"):
        LogisticRegression(None, 0.0, 0)
    with pytest.raises(ConfigError, match="no image of val has a label"):
        Robustness(**settings())(context(tmp_path, Walls(unlabeled=True)))
    probe = LogisticRegression(num_train=None, weight_decay=1e-3, steps=50)
    with pytest.raises(ConfigError, match="two classes or more, not 0"):
        probe(context(tmp_path, Walls(unlabeled=True)))
    with pytest.raises(ConfigError, match=r"domain_shift\.source=foto: .*try photo"):
        DomainShift(probe, {"photo": Walls()}, "foto", None)
    with pytest.raises(ConfigError, match=r"baseline\.path=nowhere\.json: no such file"):
        measured("nowhere.json", "robustness")
