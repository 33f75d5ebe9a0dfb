"""Subsets of classes, with a classifier of brightness levels and folders of some of its classes."""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cim_lightning.data.domains import corrupted, variants
from cim_lightning.data.view_dataset import CenterSquare
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.features import FeatureSet
from cim_lightning.evaluation.logistic import LogisticRegression
from cim_lightning.evaluation.robustness import imagenet_c
from cim_lightning.evaluation.robustness.accuracy import ClassSubset
from cim_lightning.evaluation.robustness.corruption_error import CorruptionBaseline, alexnet
from cim_lightning.evaluation.robustness.imagenet_c import StoredCorruptions
from cim_lightning.evaluation.robustness.variants import Variants
from cim_lightning.evaluation.trainer_factory import TrainerFactory
from cim_lightning.models.timm_backbone import TimmBackbone

CLASSES = ["n0", "n1", "n2", "n3"]
LEVELS = {"n0": 0, "n1": 80, "n2": 160, "n3": 240}
load_folders = partial(variants, view_size=8, batch_size=3, num_workers=0)


def nearest_level(context: EvalContext) -> Any:
    """Logits fall with the distance of an image's mean from each class's level."""

    def classifier(images: Tensor) -> Tensor:
        levels = torch.tensor([LEVELS[name] / 255 for name in CLASSES])
        return -(images.mean(dim=(1, 2, 3))[:, None] - levels).abs()

    return classifier


def write_images(root: Path, images: dict[str, list[int]]) -> str:
    for name, levels in images.items():
        for i, level in enumerate(levels):
            path = root / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(path)
    return str(root)


def context(tmp_path: Path) -> EvalContext:
    """Validation images: two per class; one of n2 looks like n3."""
    roots = {
        "val": write_images(
            tmp_path / "val", {"n0": [0, 5], "n1": [80, 85], "n2": [160, 230], "n3": [240, 250]}
        )
    }
    data = load_folders(roots)["val"]
    backbone = TimmBackbone("test_resnet", {}, "timm", False, "timm").eval()
    return EvalContext(backbone, None, data, torch.device("cpu"), tmp_path / "out", 0, {})


def test_the_prediction_is_the_most_likely_class_of_the_folder(tmp_path: Path) -> None:
    # 110 is nearest to n1, and of n0 and n2 to n2. 230 is nearest to n3, which the folder lacks.
    folder = write_images(tmp_path / "few", {"n2": [110, 230, 20], "n0": [10]})
    given = context(tmp_path)
    metrics = Variants(nearest_level, load_folders({"a": folder}), None)(given)
    assert given.protocol == {"images": {"a": 4}}
    # Clean: both n0 and both n2 are right, including the n2 that looks like n3.
    assert metrics == {"accuracy_a": 75, "clean_a": 100, "gap_a": 25}


def test_classes_match_by_name(tmp_path: Path) -> None:
    folders = {"b": write_images(tmp_path / "b", {"n1": [80, 90], "n3": [240, 100]})}
    assert Variants(nearest_level, load_folders(folders), None)(context(tmp_path))["accuracy_b"] == 75


def test_class_subset_by_hand() -> None:
    subset = ClassSubset(["n3", "n1"], CLASSES, "data")
    assert subset.relabel(torch.tensor([0, 1, 2, 3, -1])).tolist() == [-1, 1, -1, 0, -1]
    assert subset.restrict(lambda x: x)(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).tolist() == [[4.0, 2.0]]


def test_a_class_that_the_training_images_lack_is_an_error(tmp_path: Path) -> None:
    wrong = write_images(tmp_path / "wrong", {"n1": [1], "m2": [2]})
    message = "c: its class m2 is not a class of the training images; did you mean n2?"
    evaluator, given = Variants(nearest_level, load_folders({"c": wrong}), None), context(tmp_path)
    assert evaluator.applies(given) == f"needs other folders: {message}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        evaluator(given)
    right = write_images(tmp_path / "right", {"n1": [1], "n2": [2]})
    assert Variants(nearest_level, load_folders({"c": right}), None).applies(given) is None


def test_missing_folders_and_folders_without_classes_are_errors(tmp_path: Path) -> None:
    write_images(tmp_path / "one", {"n1": [1]})
    for roots, message in (
        ({}, r"^roots={}: has no folder; try"),
        ({"x": str(tmp_path / "nowhere")}, r"^x=.*nowhere: does not exist"),
        ({"x": str(tmp_path / "one")}, r"^x=.*one: must have two or more class folders[^\n]*try"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_folders(roots)


def write_corruptions(root: Path, hidden_from: int) -> str:
    """Contrast without effect, and fog that hides one dark image from a severity on."""
    for severity in range(1, 6):
        write_images(root / "contrast" / str(severity), {"n0": [0, 0], "n3": [240, 240]})
        dark = [200, 0] if severity >= hidden_from else [0, 0]
        write_images(root / "fog" / str(severity), {"n0": dark, "n3": [240, 240]})
    return str(root)


def evaluator(root: str, **changes: Any) -> StoredCorruptions:
    folders = partial(corrupted, root=root, view_size=8, batch_size=3, num_workers=0)
    settings = {"classifier": nearest_level, "corruptions": ["contrast", "fog"]}
    settings |= {"num_images": None, "baseline": None}
    return StoredCorruptions(folders=folders, **settings | changes)


def test_errors_and_mce_of_stored_corruptions_by_hand(tmp_path: Path) -> None:
    root = write_corruptions(tmp_path / "c", hidden_from=4)
    baseline = CorruptionBaseline("by hand", 10, {"contrast": 50, "fog": 20})
    given = context(tmp_path)
    metrics = evaluator(root, baseline=baseline)(given)
    assert given.protocol == {"images_per_folder": "all", "corruptions": "image files"}
    # Fog: a quarter of the images is wrong at severities 4 and 5, which is 10 % on average. Clean: none is.
    assert metrics["accuracy_clean"] == 100
    assert metrics["error_contrast"] == 0
    assert metrics["error_fog"] == pytest.approx(10)
    assert [metrics[f"accuracy_severity_{s}"] for s in range(1, 6)] == [100, 100, 100, 87.5, 87.5]
    assert metrics["mce"] == pytest.approx(100 * (0 / 50 + 10 / 20) / 2)
    assert metrics["relative_mce"] == pytest.approx(100 * (0 / 40 + 10 / 10) / 2)
    assert (tmp_path / "out/imagenet_c/corruptions.csv").read_text().splitlines()[-1] == "fog,5,75.0"
    assert (tmp_path / "out/imagenet_c/severity.png").exists()


def test_missing_corruptions_are_errors(tmp_path: Path) -> None:
    root = write_corruptions(tmp_path / "c", hidden_from=6)
    with pytest.raises(ConfigError, match=r"^root=.*: has no folder snow/1; try"):
        evaluator(root, corruptions=["fog", "snow"])
    with pytest.raises(ConfigError, match=r"^corruptions=\[\]: .*; try corruptions=null$"):
        evaluator(root, corruptions=[])
    with pytest.raises(ConfigError, match="snow"):
        evaluator(root, corruptions=["snow"], baseline=CorruptionBaseline("by hand", 10, {"fog": 20}))
    assert SimpleNamespace(**evaluator(root)(context(tmp_path))).mean_error_corrupted == 0


def test_an_interrupted_evaluation_resumes_with_the_next_folder(tmp_path: Path, monkeypatch) -> None:
    root, given = write_corruptions(tmp_path / "c", hidden_from=4), context(tmp_path)
    evaluated: list[str] = []
    accuracy = imagenet_c.accuracy

    def run() -> dict[str, float]:
        fresh = evaluator(root)
        names = {id(data): f"{name}/{severity}" for (name, severity), data in fresh.data.items()}

        def interrupted_accuracy(classifier, context, *args, **kwargs):
            evaluated.append(names.get(id(context.data), "clean"))
            if len(evaluated) == 5:
                raise KeyboardInterrupt
            return accuracy(classifier, context, *args, **kwargs)

        monkeypatch.setattr(imagenet_c, "accuracy", interrupted_accuracy)
        return fresh(given)

    with pytest.raises(KeyboardInterrupt):
        run()
    metrics = run()
    assert evaluated[:5] == ["clean", "contrast/1", "contrast/2", "contrast/3", "contrast/4"]
    assert evaluated[5:] == ["contrast/4", "contrast/5", *(f"fog/{s}" for s in range(1, 6))]
    monkeypatch.undo()
    assert evaluator(write_corruptions(tmp_path / "again", hidden_from=4))(given) == metrics


@dataclass
class FixedClass:
    """Predicts the same class for all images."""

    label: int

    def __call__(self, context: EvalContext) -> Any:
        return lambda images: torch.eye(len(CLASSES))[self.label].expand(len(images), -1)


def test_cached_accuracies_belong_to_a_classifier_and_a_number_of_images(tmp_path: Path) -> None:
    root, given = write_corruptions(tmp_path / "c", hidden_from=4), context(tmp_path)

    def run(**changes: Any) -> dict[str, float]:
        return evaluator(root, **changes)(given)

    dark, light = run(classifier=FixedClass(0)), run(classifier=FixedClass(3))
    assert dark["mean_error_corrupted"] == light["mean_error_corrupted"] == 50  # half of the images are dark
    assert run()["mean_error_corrupted"] == pytest.approx(5)
    given.cache_key = {"weights": "others"}
    given.view = CenterSquare(4)
    evaluated = []

    def counting(classifier: Any, given: EvalContext, *args: Any, **kwargs: Any) -> float:
        evaluated.append(given)
        return 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imagenet_c, "accuracy", counting)
        for number, (name, value) in enumerate([("seed", 0), ("view", None), ("cache_key", {})], start=1):
            setattr(given, name, value)
            run()
            run()  # the second time from the cache
            assert len(evaluated) == 11 * number
        run(num_images=5)
        assert len(evaluated) == 11 * 4


def test_alexnets_errors_are_for_1000_classes(tmp_path: Path) -> None:
    root, given = write_corruptions(tmp_path / "c", hidden_from=4), context(tmp_path)
    assert evaluator(root, baseline=alexnet()).applies(given) == "needs baseline=null for data of 4 classes"
    of_four = CorruptionBaseline("by hand", 10, {"contrast": 50, "fog": 20}, classes=4)
    assert evaluator(root, baseline=of_four).applies(given) is None
    assert evaluator(root).applies(given) is None


def test_forward_passes_are_the_evaluated_images(tmp_path: Path) -> None:
    given, counted = context(tmp_path), 0  # 8 validation images

    def classifier(context: EvalContext) -> Any:
        logits = nearest_level(context)

        def count(images: Tensor) -> Tensor:
            nonlocal counted
            counted += len(images)
            return logits(images)

        return count

    few = write_images(tmp_path / "few", {"n2": [110, 230, 20], "n0": [10]})
    shifted = Variants(classifier, load_folders({"a": few}), 5)
    shifted(given)
    assert counted <= shifted.forward_passes(given) == 5 + 4  # clean images of other classes are skipped
    counted = 0
    stored = evaluator(write_corruptions(tmp_path / "c", hidden_from=4), classifier=classifier, num_images=4)
    stored(given)
    assert counted <= stored.forward_passes(given) == 4 * 11


def test_a_classifier_fitted_to_some_classes_has_logits_of_all(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "few", {"n2": [160, 170], "n3": [240, 250]})
    given = context(tmp_path)
    labels = torch.tensor([0, 0, 1, 1])
    given._features["train", None, 1] = FeatureSet(
        torch.randn(4, given.backbone.dim), torch.zeros(4, 1), labels
    )
    metrics = Variants(LogisticRegression("pooled", None, 0.1, 5), load_folders({"a": folder}), None)(given)
    assert set(metrics) == {"accuracy_a", "clean_a", "gap_a"}


@dataclass
class TrainedClass(FixedClass):
    """Stands for a classifier that is trained under the configured Trainer."""

    uses_trainer = True


def test_cached_accuracies_of_a_trained_classifier_belong_to_the_settings_of_its_trainer(tmp_path) -> None:
    root, given = write_corruptions(tmp_path / "c", hidden_from=4), context(tmp_path)
    trained = evaluator(root, classifier=TrainedClass(0))
    keys = []
    for clipping in (None, 1.0):
        settings = {"accelerator": "cpu", "devices": 1, "gradient_clip_val": clipping}
        given.trainer = TrainerFactory(partial(L.Trainer, **settings))
        keys.append(trained._cache_key(given))
    assert keys[0] != keys[1]
