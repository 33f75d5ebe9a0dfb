"""Subsets of classes, with a classifier of brightness levels and folders of some of its classes."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cim_lightning.data.domains import corrupted, variants
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.features import FeatureSet
from cim_lightning.evaluation.logistic import LogisticRegression
from cim_lightning.evaluation.robustness import imagenet_c
from cim_lightning.evaluation.robustness.accuracy import ClassSubset
from cim_lightning.evaluation.robustness.corruption_error import CorruptionBaseline, alexnet
from cim_lightning.evaluation.robustness.imagenet_c import StoredCorruptions
from cim_lightning.evaluation.robustness.variants import Variants
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
    metrics = Variants(nearest_level, load_folders({"a": folder}), None)(context(tmp_path))
    # Clean: both n0 and both n2 are right, including the n2 that looks like n3.
    assert metrics == {"accuracy_a": 3 / 4, "clean_a": 1.0, "gap_a": 1 / 4}


def test_classes_match_by_name(tmp_path: Path) -> None:
    folders = {"b": write_images(tmp_path / "b", {"n1": [80, 90], "n3": [240, 100]})}
    assert Variants(nearest_level, load_folders(folders), None)(context(tmp_path))["accuracy_b"] == 3 / 4


def test_class_subset_by_hand() -> None:
    subset = ClassSubset(["n3", "n1"], CLASSES, "data")
    assert subset.relabel(torch.tensor([0, 1, 2, 3, -1])).tolist() == [-1, 1, -1, 0, -1]
    assert subset.restrict(lambda x: x)(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).tolist() == [[4.0, 2.0]]


def test_a_class_that_the_training_images_lack_is_an_error(tmp_path: Path) -> None:
    wrong = write_images(tmp_path / "wrong", {"n1": [1], "m2": [2]})
    message = r"^c: its class m2 is not a class of the training images; did you mean n2\?$"
    with pytest.raises(ConfigError, match=message):
        Variants(nearest_level, load_folders({"c": wrong}), None)(context(tmp_path))


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
    settings = {"corruptions": ["contrast", "fog"], "num_images": None, "baseline": None}
    return StoredCorruptions(nearest_level, folders, **settings | changes)


def test_errors_and_mce_of_stored_corruptions_by_hand(tmp_path: Path) -> None:
    root = write_corruptions(tmp_path / "c", hidden_from=4)
    baseline = CorruptionBaseline("by hand", 0.1, {"contrast": 0.5, "fog": 0.2})
    metrics = evaluator(root, baseline=baseline)(context(tmp_path))
    # Fog: a quarter of the images is wrong at severities 4 and 5, which is 0.1 on average. Clean: none is.
    assert metrics["accuracy_clean"] == 1
    assert metrics["error_contrast"] == 0
    assert metrics["error_fog"] == pytest.approx(0.1)
    assert [metrics[f"accuracy_severity_{s}"] for s in range(1, 6)] == [1, 1, 1, 0.875, 0.875]
    assert metrics["mce"] == pytest.approx(100 * (0 / 0.5 + 0.1 / 0.2) / 2)
    assert metrics["relative_mce"] == pytest.approx(100 * (0 / 0.4 + 0.1 / 0.1) / 2)
    assert (tmp_path / "out/imagenet_c/corruptions.csv").read_text().splitlines()[-1] == "fog,5,0.75"
    assert (tmp_path / "out/imagenet_c/severity.png").exists()


def test_missing_corruptions_are_errors(tmp_path: Path) -> None:
    root = write_corruptions(tmp_path / "c", hidden_from=6)
    with pytest.raises(ConfigError, match=r"^root=.*: has no folder snow/1; try"):
        evaluator(root, corruptions=["fog", "snow"])
    with pytest.raises(ConfigError, match=r"^corruptions=\[\]: .*; try corruptions=null$"):
        evaluator(root, corruptions=[])
    with pytest.raises(ConfigError, match="snow"):
        evaluator(root, corruptions=["snow"], baseline=CorruptionBaseline("by hand", 0.1, {"fog": 0.2}))
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


def test_alexnets_errors_are_for_1000_classes(tmp_path: Path) -> None:
    message = r"^baseline=AlexNet on ImageNet-C: .*have 4; try baseline=null$"
    with pytest.raises(ConfigError, match=message):
        evaluator(write_corruptions(tmp_path / "c", hidden_from=4), baseline=alexnet())(context(tmp_path))


def test_a_classifier_fitted_to_some_classes_has_logits_of_all(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "few", {"n2": [160, 170], "n3": [240, 250]})
    given = context(tmp_path)
    labels = torch.tensor([0, 0, 1, 1])
    given._features["train", None, 1] = FeatureSet(
        torch.randn(4, given.backbone.dim), torch.zeros(4, 1), labels
    )
    metrics = Variants(LogisticRegression(None, 0.1, 5), load_folders({"a": folder}), None)(given)
    assert set(metrics) == {"accuracy_a", "clean_a", "gap_a"}
