"""Mean-map baseline of boxes with a mean map by hand, and of the paper's boxes."""

import math

import pytest
import torch

from cim_lightning.cropping.boxes import Boxes, BoxSampler
from cim_lightning.cropping.correlation_metrics import (
    CHUNK_SIZE,
    NUM_CHUNKS,
    MeanMapBaseline,
    estimate_mean_map_baseline,
)


class FixedBoxes(BoxSampler):
    """Cycles through the given boxes (x, y, w, h), in shares of the view."""

    def __init__(self, *boxes):
        self.boxes = torch.tensor(boxes)

    def from_uniform(self, area, ratio, position, angle, view) -> Boxes:
        (b, k), (height, width) = angle.shape, view
        sampled = self.boxes[torch.arange(b * k) % len(self.boxes)].reshape(b, k, 4)
        corner, size = sampled[..., :2], sampled[..., 2:]
        pixels = torch.tensor([width, height])
        return Boxes((corner + size / 2) * pixels, size * pixels, torch.zeros(b, k), view)


def estimate(plain, *boxes) -> MeanMapBaseline:
    cropping = plain(context_size=8, exemplar_size=2)
    vars(cropping.random_crop)["boxes"] = FixedBoxes(*boxes)
    return estimate_mean_map_baseline(cropping)


def test_left_and_right_half_alternate(plain):
    baseline = estimate(plain, (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 0.5, 1.0))
    assert baseline.loss == pytest.approx(math.log(2))
    assert baseline.iou == 0  # the mean map is not above 0.5 anywhere
    assert baseline.best_iou == pytest.approx(0.5)  # the whole view is predicted
    assert baseline.pointing == pytest.approx(0.5)


def test_three_left_halves_and_one_whole_view(plain):
    # all boxes cover the left half, 1 of 4 the right half; at threshold 0.5 the left half is predicted
    left, whole = (0.0, 0.0, 0.5, 1.0), (0.0, 0.0, 1.0, 1.0)
    baseline = estimate(plain, left, left, left, whole)
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert baseline.loss == pytest.approx(entropy / 2)
    assert baseline.iou == pytest.approx((3 * 1 + 0.5) / 4)
    assert baseline.best_iou == pytest.approx(0.875)
    assert baseline.pointing == 1


def test_equal_boxes_are_predicted_perfectly(plain):
    baseline = estimate(plain, (0.25, 0.25, 0.5, 0.5))
    assert baseline == MeanMapBaseline(loss=0, iou=1, best_iou=1, pointing=1)


def test_the_mean_map_is_measured_on_boxes_that_it_was_not_made_from(plain):
    left, right, half = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 0.5, 1.0), NUM_CHUNKS * CHUNK_SIZE // 2
    baseline = estimate(plain, *[left] * half, *[right] * half)
    assert (baseline.iou, baseline.best_iou, baseline.pointing) == (0, 0, 0)  # 0.5 on its own boxes


def test_the_papers_boxes_have_the_measured_baseline(plain):
    baseline = estimate_mean_map_baseline(plain(context_size=160, exemplar_size=64))
    assert baseline.loss == pytest.approx(0.454, abs=0.03)
    assert baseline.iou == pytest.approx(0.45, abs=0.03)
    assert baseline.best_iou == pytest.approx(0.49, abs=0.03)


def test_the_estimate_is_reproducible_and_leaves_the_global_random_stream(plain):
    before = torch.get_rng_state()
    first = estimate_mean_map_baseline(plain())
    torch.rand(1)
    assert first == estimate_mean_map_baseline(plain())
    torch.set_rng_state(before)
    estimate_mean_map_baseline(plain())
    assert torch.equal(before, torch.get_rng_state())


def test_skill_is_0_at_the_baseline_loss_and_1_at_loss_0():
    baseline = MeanMapBaseline(loss=0.4, iou=0.0, best_iou=0.0, pointing=0.0)
    losses = torch.tensor([0.4, 0.0, 0.1, 0.8])
    torch.testing.assert_close(baseline.skill(losses), torch.tensor([0.0, 1.0, 0.75, -1.0]))


def test_the_estimate_never_changes(plain):
    """Skills of runs of different versions are comparable only if the baseline is the same."""
    found = estimate_mean_map_baseline(plain())
    values = (found.loss, found.iou, found.best_iou, found.pointing)
    assert values == pytest.approx((0.463924, 0.439772, 0.489570, 0.784668), abs=2e-5)
