"""Scores of masks, worked out by hand."""

import math

import pytest
import torch

from cim_lightning.evaluation.segmentation.metrics import SegmentationMetrics

CPU = torch.device("cpu")
# Three classes that occur, one that does not, and one pixel that counts for nothing.
TRUTH = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2], [2, 2, 2, 255]])
FOUND = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1], [2, 2, 0, 0], [2, 2, 2, 0]])
# class 0: 3 in both, 4 true, 5 found -> 3 / 6; class 1: 4, 4, 5 -> 4 / 5; class 2: 5, 7, 5 -> 5 / 7


def scored(
    *pairs: tuple[torch.Tensor, torch.Tensor], classes: tuple[str, ...] = ("Sky", "Road Works", "c;d", "e")
):
    scores = SegmentationMetrics(classes, 255, CPU)
    for found, truth in pairs:
        scores.update(found, truth)
    return scores.compute()


def test_a_4x4_literal() -> None:
    assert scored((FOUND, TRUTH)) == {
        "miou": pytest.approx((3 / 6 + 4 / 5 + 5 / 7) / 3),
        "pixel_accuracy": pytest.approx(12 / 15),
        "class_accuracy": pytest.approx((3 / 4 + 4 / 4 + 5 / 7) / 3),
        "iou_sky": pytest.approx(3 / 6),
        "iou_road_works": pytest.approx(4 / 5),
        "iou_c_d": pytest.approx(5 / 7),
    }


def test_a_class_found_where_it_never_is_counts_as_0() -> None:
    found = FOUND.clone()
    found[0, 0] = 3
    numbers = scored((found, TRUTH))
    assert numbers["iou_e"] == 0
    assert numbers["miou"] == pytest.approx((2 / 6 + 4 / 5 + 5 / 7 + 0) / 4)
    assert numbers["class_accuracy"] == pytest.approx((2 / 4 + 4 / 4 + 5 / 7) / 3)


def test_the_data_set_is_one_mask_whatever_it_is_cut_into() -> None:
    cut = scored(*zip(FOUND.split(1), TRUTH.split(1), strict=True))
    assert cut == scored((FOUND, TRUTH))  # a mean of the images' own values would be another


def test_nothing_but_ignored_pixels_is_no_number() -> None:
    numbers = scored((FOUND, torch.full_like(TRUTH, 255)))
    assert all(math.isnan(value) for value in numbers.values())
    assert set(numbers) == {"miou", "pixel_accuracy", "class_accuracy"}
