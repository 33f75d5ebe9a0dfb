"""IoU and pointing accuracy against values by hand."""

import pytest
import torch

from cim_lightning.cropping.correlation_metrics import iou_and_pointing


def test_two_maps_by_hand():
    maps = torch.tensor([[[[1, 1], [1, 1]], [[0, 0], [0, 1]]]], dtype=torch.bool)
    logits = torch.tensor([[[[3.0, -1], [2, 0]], [[1, 5], [-1, 2]]]])
    # map 1: 2 of 4 true pixels are predicted; map 2: 3 pixels are predicted, 1 of them true, not the maximum
    scores = iou_and_pointing(logits, maps)
    assert scores["iou"].item() == pytest.approx((2 / 4 + 1 / 3) / 2)
    assert scores["pointing"].item() == 0.5


def test_empty_maps_score_0():
    scores = iou_and_pointing(-torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.bool))
    assert scores == {"iou": 0, "pointing": 0}
