"""Requirements of evaluators."""

from types import SimpleNamespace

import pytest

from cim_lightning.evaluation.requirements import needs_labels


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
    splits = SimpleNamespace(train=SimpleNamespace(classes=train), val=SimpleNamespace(classes=val))
    assert needs_labels(context(data=SimpleNamespace(splits=splits))) == reason
