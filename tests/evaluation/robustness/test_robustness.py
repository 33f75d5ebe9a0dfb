"""The evaluators `robustness` and `domain_shift` on classifiers with known predictions."""

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
from cim_lightning.evaluation.robustness import accuracy
from cim_lightning.evaluation.robustness.corruption_error import CorruptionBaseline, from_metrics
from cim_lightning.evaluation.robustness.domain_shift import DomainShift
from cim_lightning.evaluation.robustness.robustness import Robustness
from cim_lightning.models.timm_backbone import TimmBackbone

LEVELS = (100, 155)  # of a dark and a light image: 27.5 gray levels from the threshold


class LabeledDataset(list):
    """Images and labels, of two classes."""

    classes = ("dark", "light")


class ConstantImages:
    """Data of constant images, dark (label 0) or light (1); `swap` exchanges the labels."""

    def __init__(
        self, count: int = 20, swap: bool = False, unlabeled: bool = False, levels: tuple[int, int] = LEVELS
    ):
        labels = torch.arange(count) % 2
        views = torch.tensor(levels, dtype=torch.uint8)[labels][:, None, None, None].expand(-1, 3, 32, 32)
        labels = torch.full_like(labels, -1) if unlabeled else (1 - labels if swap else labels)
        self.images = [(view, int(label)) for view, label in zip(views, labels, strict=True)]
        self.splits = SimpleNamespace(train=LabeledDataset(self.images), val=LabeledDataset(self.images))
        self.source, self.view = "constant", SimpleNamespace(size=32)

    def eval_dataloader(
        self, split: str, limit: int | None, view: Any = None, rank: int = 0, world_size: int = 1
    ) -> DataLoader[Any]:
        batches = torch.arange(len(self.images))[:limit].split(8)[rank::world_size]
        return DataLoader(self.images, batch_sampler=[batch.tolist() for batch in batches])  # pyright: ignore


def context(folder: Path, data: ConstantImages) -> EvalContext:
    torch.manual_seed(0)
    backbone = TimmBackbone("test_resnet", {}, "timm", False, "timm").eval()
    return EvalContext(backbone, None, data, torch.device("cpu"), folder, 0, {})


def mean_classifier(context: EvalContext) -> nn.Module:
    """Predicts light if the mean is above 127.5."""
    layer = nn.Linear(3 * 32 * 32, 2)
    with torch.no_grad():
        layer.weight[0], layer.weight[1] = -1 / 3072, 1 / 3072
        layer.bias[0], layer.bias[1] = 0.5, -0.5
    return nn.Sequential(nn.Flatten(), layer)


def settings(**changed: Any) -> dict[str, Any]:
    config: Any = OmegaConf.to_container(OmegaConf.load(CONF / "evaluation/robustness.yaml"))
    del config["robustness"]["_target_"]
    return config["robustness"] | {"classifier": mean_classifier} | changed


def test_accuracy_falls_when_the_radius_exceeds_the_margin(tmp_path):
    evaluator = Robustness(**settings(radii=[20, 27, 28], corruptions=["brightness", "contrast"]))
    given = context(tmp_path, ConstantImages())
    metrics = evaluator(given)
    assert metrics["accuracy_clean"] == 100
    for attack in ("fgsm", "pgd"):
        assert [metrics[f"accuracy_{attack}_{r}"] for r in ("20", "27", "28")] == [100, 100, 0]
    # Contrast does not change constant images. Brightness 0.1 raises 100 to 125.5, below the threshold; 0.2
    # raises it above.
    table = list(csv.reader((tmp_path / "robustness" / "corruptions.csv").read_text().splitlines()))[1:]
    assert [float(row[2]) for row in table if row[0] == "brightness"] == [100, 100, 50, 50, 50, 50]
    assert [float(row[2]) for row in table if row[0] == "contrast"] == [100] * 6
    assert metrics["error_brightness"] == pytest.approx(40)
    assert metrics["error_contrast"] == 0
    assert metrics["mean_error_corrupted"] == pytest.approx(20)
    assert [metrics[f"accuracy_severity_{s}"] for s in (1, 2, 5)] == [100, 75, 75]
    # Dropping and shuffling do not change constant images.
    constant = ("drop_0.25", "drop_0.75", "shuffle_2", "shuffle_8")
    assert {metrics[f"accuracy_{name}"] for name in constant} == {100}
    assert "mce" not in metrics
    assert given.protocol["images"] == 20
    assert (given.protocol["pgd_steps"], given.protocol["pgd_step_size"]) == (10, 0.25)
    assert (tmp_path / "robustness" / "severity.png").stat().st_size > 10_000


def test_corruption_errors_relative_to_a_baseline(tmp_path):
    baseline = CorruptionBaseline("by hand", 0, {"brightness": 80, "contrast": 50})
    evaluator = Robustness(**settings(radii=[], corruptions=["brightness", "contrast"], baseline=baseline))
    metrics = evaluator(context(tmp_path, ConstantImages()))
    assert metrics["mce"] == pytest.approx((50 + 0) / 2)
    assert metrics["relative_mce"] == pytest.approx((50 + 0) / 2)
    path = tmp_path / "metrics.json"
    numbers = {f"robustness/{name}": value for name, value in metrics.items()}
    path.write_text(json.dumps(numbers | {"protocol": {"robustness": {"images": 20}}}))
    found = from_metrics(str(path), "robustness")
    assert found.clean == 0
    assert found.errors == pytest.approx({"brightness": 40, "contrast": 0})
    path.write_text(json.dumps(numbers))
    with pytest.raises(ConfigError, match=r"^path=.*: was written by an older version; run"):
        from_metrics(str(path), "robustness")


def test_no_relative_mce_if_a_corruption_adds_no_error_to_the_baseline(tmp_path):
    baseline = CorruptionBaseline("by hand", 50, {"brightness": 80, "contrast": 50})
    evaluator = Robustness(**settings(radii=[], corruptions=["brightness", "contrast"], baseline=baseline))
    metrics = evaluator(context(tmp_path, ConstantImages()))
    assert metrics["mce"] == pytest.approx(25)
    assert "relative_mce" not in metrics


def test_the_classifier_is_fitted_and_the_backbone_unchanged(tmp_path):
    given = context(tmp_path, ConstantImages())
    before = {name: value.clone() for name, value in given.backbone.state_dict().items()}
    classifier = LogisticRegression(features="pooled", num_train=None, weight_decay=1e-3, steps=50)
    metrics = Robustness(**settings(classifier=classifier, radii=[1, 100], corruptions=["contrast"]))(given)
    assert metrics["accuracy_clean"] == 100
    assert metrics["accuracy_pgd_100"] < 100
    assert all(torch.equal(before[name], value) for name, value in given.backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in given.backbone.parameters())


def test_metrics_depend_on_the_seed_and_not_on_the_global_generator(tmp_path):
    evaluator = Robustness(**settings(radii=[], corruptions=["gaussian_noise", "shot_noise"]))
    close = ConstantImages(40, levels=(127, 128))  # so close to the threshold that noise decides
    first = evaluator(context(tmp_path, close))
    assert 50 < first["accuracy_severity_5"] < 100
    torch.rand(7)
    assert evaluator(context(tmp_path, close)) == first
    another_seed = context(tmp_path, close)
    another_seed.seed = 1
    assert evaluator(another_seed) != first


@pytest.mark.parametrize("limit", [None, 6])
def test_a_classifier_of_one_domain_is_evaluated_on_all(tmp_path, limit):
    domains = {"photo": ConstantImages(), "mirror": ConstantImages(swap=True), "same": ConstantImages(12)}
    classifier = LogisticRegression(features="pooled", num_train=None, weight_decay=1e-3, steps=50)
    swapped = context(tmp_path, ConstantImages(swap=True))  # cached features of other data must not be used
    swapped.features("train", None)
    metrics = DomainShift(classifier, domains, "photo", limit)(swapped)
    counts = (
        {"photo": 20, "mirror": 40, "same": 24} if limit is None else {"photo": 6, "mirror": 12, "same": 12}
    )
    assert swapped.protocol == {"source": "photo", "images": counts}
    assert metrics == {
        "accuracy_photo": 100,
        "accuracy_mirror": 0,
        "accuracy_same": 100,
        "accuracy_others": 50,
    }
    assert next(iter(metrics)) == "accuracy_photo"  # the source comes first


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"corruptions": ["frst"]}, r"^corruptions=\[frst\]: frst is no corruption; did you mean frost\?$"),
        ({"radii": [1, 256]}, r"^radii=\[1, 256\]: must be in 0\.\.255; try radii=\[1, 255\]$"),
        ({"drop_shares": [0.5, 1.5]}, r"^drop_shares=\[0\.5, 1\.5\]: .*; try drop_shares=\[0\.5, 1\]$"),
        ({"pgd_steps": 0}, r"^pgd_steps=0: .*; try pgd_steps=1$"),
        ({"pgd_step_size": 0.0}, r"^pgd_step_size=0\.0: .*; try pgd_step_size=0\.25$"),
        (
            {"corruptions": ["fog"], "baseline": CorruptionBaseline("by hand", 0, {})},
            r"^baseline=by hand: .* fog",
        ),
    ],
)
def test_a_mistake_gets_one_line(changed, message):
    with pytest.raises(ConfigError, match=message):
        Robustness(**settings(**changed))


def test_robustness_needs_labels_and_grids_that_divide_the_images(tmp_path):
    given = context(tmp_path, ConstantImages())
    assert Robustness(**settings()).applies(given) is None
    assert "divide images of 32 pixels, not [5] patches" in (
        Robustness(**settings(shuffle_patches=[2, 5])).applies(given) or ""
    )
    assert "not [12] patches" in (Robustness(**settings(drop_patches=12)).applies(given) or "")
    given.data.view = SimpleNamespace(size=36)
    assert "36 pixels, not [8, 8] patches" in (Robustness(**settings()).applies(given) or "")
    given.data.splits.train.classes = None
    assert "labels" in (Robustness(**settings()).applies(given) or "")


def test_forward_passes_are_those_that_the_backbone_makes(tmp_path):
    counted = 0

    def classifier(given: EvalContext) -> Any:
        layer = mean_classifier(given)

        def logits(images: torch.Tensor) -> torch.Tensor:
            nonlocal counted
            counted += len(images) * (3 if images.requires_grad else 1)
            return layer(images)

        return logits

    given = context(tmp_path, ConstantImages())
    evaluator = Robustness(**settings(classifier=classifier, num_images=6, radii=[1, 2], pgd_steps=3))
    evaluator(given)
    assert evaluator.forward_passes(given) == counted
    counted = 0
    domains = {"photo": ConstantImages(), "other": ConstantImages(4)}
    shift = DomainShift(classifier, domains, "photo", 6)
    shift(given)
    assert shift.forward_passes(given) == counted


def test_several_processes_count_all_images_once(tmp_path, monkeypatch):
    # Two processes, one after the other: the first one's counts are added to those of the second.
    whole = context(tmp_path, ConstantImages(40, levels=(127, 128)))
    evaluator = Robustness(**settings(radii=[1], corruptions=["gaussian_noise"], num_images=28))
    expected = evaluator(whole)
    counts: list[float] = []
    for rank in range(2):
        part = context(tmp_path, whole.data)
        part.rank, part.world_size = rank, 2
        position = iter(range(1000))

        def total(value: float, _: torch.device, rank: int = rank, position: Any = position) -> float:
            counts.append(value) if rank == 0 else None
            return value if rank == 0 else value + counts[next(position)]

        monkeypatch.setattr(accuracy, "sum_over_processes", total)
        metrics = evaluator(part)
    assert metrics == expected
    assert len(set(expected.values())) > 3


def test_images_without_labels_or_an_unknown_domain_are_errors(tmp_path):
    with pytest.raises(ConfigError, match="the images have no labels"):
        Robustness(**settings())(context(tmp_path, ConstantImages(unlabeled=True)))
    with pytest.raises(ConfigError, match=r"^source=foto: .*; did you mean photo\?$"):
        DomainShift(mean_classifier, {"photo": ConstantImages()}, "foto", None)


def test_a_mistake_in_the_classifier_gets_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"^features=max: must be one of mean, pooled"):
        LogisticRegression("max", None, 0.0, 50)
    with pytest.raises(ConfigError, match=r"^weight_decay=-1\.0: .*; try weight_decay=0$"):
        LogisticRegression("pooled", None, -1.0, 50)
    with pytest.raises(ConfigError, match=r"^steps=0: .*; try steps=1$"):
        LogisticRegression("pooled", None, 0.0, 0)
    with pytest.raises(ConfigError, match="no labels"):
        LogisticRegression("pooled", None, 1e-3, 50)(context(tmp_path, ConstantImages(unlabeled=True)))
    with pytest.raises(ConfigError, match="two or more classes"):
        LogisticRegression("pooled", None, 1e-3, 50)(context(tmp_path, ConstantImages(count=1)))


def test_a_baseline_without_a_file_or_without_errors_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"^path=nowhere\.json: no such file"):
        from_metrics("nowhere.json", "robustness")
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"^path=.*no corruption errors of the evaluator robustness"):
        from_metrics(str(tmp_path / "metrics.json"), "robustness")
