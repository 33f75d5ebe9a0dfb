"""Requirements of evaluators."""

from types import SimpleNamespace
from typing import Any

import pytest

from cim_lightning.data.source import NoImages, Splits
from cim_lightning.evaluation.requirements import needs_labels, needs_rgb, needs_val_images


class Images(SimpleNamespace):
    def __len__(self) -> int:
        return 3


def splits(train: list[str] | None, val: list[str] | None, **attributes: Any) -> SimpleNamespace:
    return SimpleNamespace(train=Images(classes=train), val=Images(classes=val, **attributes))


@pytest.mark.parametrize(
    ("train", "val", "reason"),
    [
        (["cat", "dog"], ["cat"], None),
        (None, ["cat", "dog"], "needs images with labels"),
        (["cat", "dog"], None, "needs images with labels"),
        (["all"], ["all"], "needs labels of two or more classes"),  # unlabeled images in one folder
    ],
)
def test_labels_are_of_two_or_more_classes(train, val, reason, context):
    assert needs_labels(context(data=SimpleNamespace(splits=splits(train, val)))) == reason


def test_all_validation_classes_have_training_images(context):
    images = splits(["cat", "dog"], ["cat", "dog"], unknown_classes=["cow", "emu"])
    reason = "needs training images of all validation classes (cow, emu has none)"
    assert needs_labels(context(data=SimpleNamespace(splits=images))) == reason


def test_validation_images(context):
    images = Splits(Images(classes=["cat", "dog"]), NoImages())
    for requirement in (needs_labels, needs_val_images):
        assert requirement(context(data=SimpleNamespace(splits=images))) == "needs validation images"


def test_rgb_images(context):
    given = context()
    assert needs_rgb(given) is None
    given.backbone.in_channels = 4
    assert needs_rgb(given) == "needs a backbone for RGB images, not for 4 channel(s)"
