"""Class subsets by hand: a classifier that tells brightnesses apart, and folders that hold some of them."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cim_lightning.data.domains import corrupted, named
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.features import FeatureSet
from cim_lightning.evaluation.logistic import LogisticRegression
from cim_lightning.evaluation.robustness import imagenet_c
from cim_lightning.evaluation.robustness.class_subset import Subset
from cim_lightning.evaluation.robustness.corruption_error import ALEXNET, CorruptionBaseline
from cim_lightning.evaluation.robustness.imagenet_c import StoredCorruptions
from cim_lightning.evaluation.robustness.variants import Variants
from cim_lightning.models.backbone import Backbone

KNOWN = ["n0", "n1", "n2", "n3"]
LEVELS = {"n0": 0, "n1": 80, "n2": 160, "n3": 240}
SHOWN = partial(named, view_size=8, batch_size=3, num_workers=0)


def nearest_level(context: EvalContext) -> Any:
    """Logits fall with the distance of an image's mean from each class's level."""

    def classifier(images: Tensor) -> Tensor:
        levels = torch.tensor([LEVELS[name] / 255 for name in KNOWN])
        return -(images.mean(dim=(1, 2, 3))[:, None] - levels).abs()

    return classifier


def tree(root: Path, images: dict[str, list[int]]) -> str:
    for name, levels in images.items():
        for i, level in enumerate(levels):
            path = root / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(path)
    return str(root)


def context(tmp_path: Path) -> EvalContext:
    """Validation images: two of each class, of which one n2 colors like n3."""
    roots = {
        "val": tree(tmp_path / "val", {"n0": [0, 5], "n1": [80, 85], "n2": [160, 230], "n3": [240, 250]})
    }
    data = SHOWN(roots)["val"]
    backbone = Backbone("test_resnet", {}, "timm", False, "timm").eval()
    return EvalContext(backbone, None, nn.Identity(), data, torch.device("cpu"), tmp_path / "out", 0, {})


def test_an_answer_is_the_likeliest_of_the_classes_that_the_folder_holds(tmp_path: Path) -> None:
    # 110 is nearest to n1 of all, but of n0 and n2 to n2; 230 is nearest to n3, which the folder lacks.
    few = tree(tmp_path / "few", {"n2": [110, 230, 20], "n0": [10]})
    numbers = Variants(nearest_level, SHOWN({"a": few}), None)(context(tmp_path))
    assert numbers == {
        "accuracy_a": 3 / 4,
        "clean_a": 1.0,
        "gap_a": 1 / 4,
    }  # both n0, both n2: the one like n3 too


def test_classes_are_found_by_name_whatever_their_number(tmp_path: Path) -> None:
    folders = {"b": tree(tmp_path / "b", {"n1": [80, 90], "n3": [240, 100]})}
    assert Variants(nearest_level, SHOWN(folders), None)(context(tmp_path))["accuracy_b"] == 3 / 4


def test_labels_are_numbered_anew_by_hand() -> None:
    subset = Subset(["n3", "n1"], KNOWN, "here")
    assert subset.relabeled(torch.tensor([0, 1, 2, 3, -1])).tolist() == [-1, 1, -1, 0, -1]
    assert subset.narrowed(lambda x: x)(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).tolist() == [[4.0, 2.0]]


def test_a_class_that_training_lacks_is_refused(tmp_path: Path) -> None:
    wrong = tree(tmp_path / "wrong", {"n1": [1], "m2": [2]})
    told = r"^evaluation\.variants\.folders\.roots\.c: has the class 'm2', .*try 'n2'"
    with pytest.raises(ConfigError, match=told):
        Variants(nearest_level, SHOWN({"c": wrong}), None)(context(tmp_path))


def test_folders_that_are_missing_or_flat_are_refused(tmp_path: Path) -> None:
    tree(tmp_path / "one", {"n1": [1]})
    for roots, told in (
        ({}, "roots={}: no folder"),
        ({"x": str(tmp_path / "nowhere")}, "does not exist"),
        ({"x": str(tmp_path / "one")}, "holds no two class folders"),
    ):
        with pytest.raises(ConfigError, match=f"evaluation.variants.folders.*{told}[^\n]*try"):
            SHOWN(roots)


def stored(root: Path, darker: int) -> str:
    """Contrast as it was; fog that hides the dark class from severity `darker` on."""
    for severity in range(1, 6):
        tree(root / "contrast" / str(severity), {"n0": [0, 0], "n3": [240, 240]})
        hidden = [200, 0] if severity >= darker else [0, 0]
        tree(root / "fog" / str(severity), {"n0": hidden, "n3": [240, 240]})
    return str(root)


def part(root: str, **changes: Any) -> StoredCorruptions:
    folders = partial(corrupted, root=root, view_size=8, batch_size=3, num_workers=0)
    settings = {"corruptions": ["contrast", "fog"], "num_images": None, "baseline": None}
    return StoredCorruptions(nearest_level, folders, **settings | changes)


def test_errors_and_mce_of_stored_corruptions_by_hand(tmp_path: Path) -> None:
    root = stored(tmp_path / "c", darker=4)
    baseline = CorruptionBaseline("by hand", 0.1, {"contrast": 0.5, "fog": 0.2})
    numbers = part(root, baseline=baseline)(context(tmp_path))
    # Fog: a quarter of the images wrong at severities 4 and 5, so 0.1 on average; clean: none of n0 and n3.
    assert numbers["accuracy_clean"] == 1
    assert numbers["error_contrast"] == 0
    assert numbers["error_fog"] == pytest.approx(0.1)
    assert [numbers[f"accuracy_severity_{s}"] for s in range(1, 6)] == [1, 1, 1, 0.875, 0.875]
    assert numbers["mce"] == pytest.approx(100 * (0 / 0.5 + 0.1 / 0.2) / 2)
    assert numbers["relative_mce"] == pytest.approx(100 * (0 / 0.4 + 0.1 / 0.1) / 2)
    assert (tmp_path / "out/imagenet_c/corruptions.csv").read_text().splitlines()[-1] == "fog,5,0.75"
    assert (tmp_path / "out/imagenet_c/severity.png").exists()


def test_what_is_missing_of_stored_corruptions_is_refused(tmp_path: Path) -> None:
    root = stored(tmp_path / "c", darker=6)
    with pytest.raises(ConfigError, match=r"imagenet_c\.folders\.root=.*: has no folder snow/1; try"):
        part(root, corruptions=["fog", "snow"])
    with pytest.raises(ConfigError, match=r"corruptions=\[\]: one or more"):
        part(root, corruptions=[])
    with pytest.raises(ConfigError, match="snow"):
        part(root, corruptions=["snow"], baseline=CorruptionBaseline("by hand", 0.1, {"fog": 0.2}))
    assert SimpleNamespace(**part(root)(context(tmp_path))).mean_error_corrupted == 0


def test_an_interrupted_look_at_stored_corruptions_goes_on_with_the_next(tmp_path: Path, monkeypatch) -> None:
    root, given = stored(tmp_path / "c", darker=4), context(tmp_path)
    looked_at: list[str] = []
    plain = imagenet_c.accuracies

    def breaks(classifier, changes, *rest):
        looked_at.extend(changes)
        if len(looked_at) == 5:
            raise KeyboardInterrupt
        return plain(classifier, changes, *rest)

    monkeypatch.setattr(imagenet_c, "accuracies", breaks)
    with pytest.raises(KeyboardInterrupt):
        part(root)(given)
    numbers = part(root)(given)
    assert looked_at[:5] == ["clean", "contrast/1", "contrast/2", "contrast/3", "contrast/4"]
    assert looked_at[5:] == ["contrast/4", "contrast/5", *(f"fog/{s}" for s in range(1, 6))]
    monkeypatch.undo()
    assert part(stored(tmp_path / "again", darker=4))(given) == numbers


def test_alexnets_errors_are_for_a_thousand_classes(tmp_path: Path) -> None:
    told = r"^evaluation\.imagenet_c\.baseline=AlexNet on ImageNet-C: .*have 4; try .*=null"
    with pytest.raises(ConfigError, match=told):
        part(stored(tmp_path / "c", darker=4), baseline=ALEXNET)(context(tmp_path))


def test_a_probe_answers_for_all_classes_whichever_it_was_fitted_to(tmp_path: Path) -> None:
    few = tree(tmp_path / "few", {"n2": [160, 170], "n3": [240, 250]})
    given = context(tmp_path)
    labels = torch.tensor([0, 0, 1, 1])
    given._features["train", None, 1] = FeatureSet(
        torch.randn(4, given.backbone.dim), torch.zeros(4, 1), labels
    )
    numbers = Variants(LogisticRegression(None, 0.1, 5), SHOWN({"a": few}), None)(given)
    assert set(numbers) == {"accuracy_a", "clean_a", "gap_a"}
