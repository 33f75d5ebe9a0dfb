"""Metrics of masks, computed by hand."""

import math

import pytest
import torch

from cim_lightning.evaluation.segmentation.metrics import SegmentationMetrics

# Three classes that occur, a fourth class that does not, and one ignored pixel.
MASK = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2], [2, 2, 2, 255]])
PREDICTED = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1], [2, 2, 0, 0], [2, 2, 2, 0]])
# class 0: 3 in both, 4 in MASK, 5 in PREDICTED -> 3 / 6; class 1: 4, 4, 5 -> 4 / 5; 2: 5, 7, 5 -> 5 / 7


def compute(
    *pairs: tuple[torch.Tensor, torch.Tensor], classes: tuple[str, ...] = ("Sky", "Road Works", "c;d", "e")
):
    metrics = SegmentationMetrics(classes)
    for predicted, mask in pairs:
        metrics.update(predicted, mask)
    return metrics.compute()


def test_metrics_of_a_4x4_mask() -> None:
    assert compute((PREDICTED, MASK)) == {
        "miou": pytest.approx(100 * (3 / 6 + 4 / 5 + 5 / 7) / 3),
        "pixel_accuracy": pytest.approx(100 * 12 / 15),
        "class_accuracy": pytest.approx(100 * (3 / 4 + 4 / 4 + 5 / 7) / 3),
        "iou_sky": pytest.approx(50),
        "iou_road_works": pytest.approx(80),
        "iou_c_d": pytest.approx(500 / 7),
    }


def test_a_class_that_is_only_predicted_counts_as_0() -> None:
    predicted = PREDICTED.clone()
    predicted[0, 0] = 3
    numbers = compute((predicted, MASK))
    assert numbers["iou_e"] == 0
    assert numbers["miou"] == pytest.approx(100 * (2 / 6 + 4 / 5 + 5 / 7 + 0) / 4)
    assert numbers["class_accuracy"] == pytest.approx(100 * (2 / 4 + 4 / 4 + 5 / 7) / 3)


def test_a_class_of_one_pixel_counts() -> None:
    mask = MASK.clone()
    mask[3, 3] = 3
    # The predicted class of this pixel is 0: pixels of class 0 are 3 in both, 4 in mask, 6 in predicted.
    assert compute((PREDICTED, mask))["class_accuracy"] == pytest.approx(
        100 * (3 / 4 + 4 / 4 + 5 / 7 + 0) / 4
    )


def test_metrics_do_not_depend_on_the_split_into_images() -> None:
    rows = compute(*zip(PREDICTED.split(1), MASK.split(1), strict=True))
    assert rows == compute((PREDICTED, MASK))  # a mean over images would differ


def test_ignored_pixels_alone_give_nan() -> None:
    numbers = compute((PREDICTED, torch.full_like(MASK, 255)))
    assert all(math.isnan(value) for value in numbers.values())
    assert set(numbers) == {"miou", "pixel_accuracy", "class_accuracy"}
