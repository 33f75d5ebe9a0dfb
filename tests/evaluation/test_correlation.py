"""Metrics of the pretext task for stub methods with known logits."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from cim_lightning.cropping.correlation_metrics import estimate_mean_map_baseline
from cim_lightning.cropping.exemplars import Crops, ExemplarCropper
from cim_lightning.cropping.resize import ImageBatch, ResizeCropper
from cim_lightning.data.batch import Batch, Samples
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.correlation import CorrelationGrid
from cim_lightning.image_random import ImageRandom, image_seeds

CROPPING = ExemplarCropper(
    4, [0.05, 0.48], [1 / 3, 3.0], 45, context_size=16, exemplar_size=8, flip=0.5, appearance=None
)


class StubMethod(torch.nn.Module):
    """A method whose logits are a given function of the crops."""

    batch_type = Crops

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, crops):
        return self.logits(crops)


@pytest.fixture
def context_with_logits(context):
    """Build a context with black images, whose method returns given logits."""

    def build(logits, images: int = 64):
        views = torch.zeros(images, 3, 16, 16, dtype=torch.uint8)

        def eval_dataloader(split, limit, view=None, rank=0, world_size=1):
            assert (split, rank, world_size) == ("val", 0, 1)  # each process evaluates all images
            seeds = torch.arange(limit) + 3
            samples = Samples(0 * seeds.numpy(), np.arange(limit), seeds.numpy())
            return DataLoader([Batch(views[:limit], 0 * seeds, seeds, samples)], batch_size=None)

        splits = SimpleNamespace(val=range(images))
        view = SimpleNamespace(size=16)
        data = SimpleNamespace(cropping=CROPPING, eval_dataloader=eval_dataloader, splits=splits, view=view)
        return context(method=StubMethod(logits), data=data)

    return build


def grid(num_images: int = 64) -> CorrelationGrid:
    return CorrelationGrid([0.1, 0.4], [0, 45, 90], num_images)


def test_perfect_logits_reach_1_in_every_metric(context_with_logits, tmp_path):
    given = context_with_logits(lambda crops: (crops.maps.float() - 0.5) * 200)
    given.world_size = 2
    numbers = grid()(given)
    cells = list(csv.DictReader((tmp_path / "correlation.csv").read_text().splitlines()))
    settings = [(float(cell["scale"]), float(cell["rotation"])) for cell in cells]
    assert settings == [(scale, rotation) for scale in (0.1, 0.4) for rotation in (0, 45, 90)]
    for name in ("skill", "iou", "pointing", "auc"):
        assert [float(cell[name]) for cell in cells] == pytest.approx([1] * 6)
        assert numbers[name] == pytest.approx(1)
    assert (tmp_path / "correlation.png").stat().st_size > 10_000


def test_the_mean_map_has_no_skill(context_with_logits):
    boxes = CROPPING.boxes.sample(4000, (16, 16), ImageRandom(image_seeds(7, 1)))
    mean = boxes.rasterize(16, 16).float().mean(dim=1, keepdim=True).clamp(1e-3, 1 - 1e-3)
    built = context_with_logits(lambda crops: mean.logit().expand_as(crops.maps), images=256)
    numbers = CorrelationGrid([0.1], [45], 256).evaluate_cropping(built, CROPPING)
    baseline = estimate_mean_map_baseline(CROPPING)
    assert numbers["skill"] == pytest.approx(0, abs=0.02)
    assert (
        numbers["iou"]
        == pytest.approx(baseline.iou, abs=0.03)
        == pytest.approx(numbers["iou_baseline"], abs=0.03)
    )
    assert 0.6 < numbers["auc_baseline"] < 0.95
    # The boxes of few images do not make their own baseline.
    few = CorrelationGrid([0.1], [45], 3).evaluate_cropping(built, CROPPING)
    for found in (numbers, few):
        assert found["auc"] == pytest.approx(found["auc_baseline"], abs=0.01)


def test_cells_crop_with_their_scale_and_rotation(context_with_logits):
    boxes = []

    def record(crops):
        boxes.append(crops.boxes)
        return torch.zeros(crops.maps.shape)

    grid()(context_with_logits(record))
    _, *cells = boxes
    assert len(cells) == 6
    upright = cells[0]
    assert not upright.angle.any()
    torch.testing.assert_close(upright.area, torch.full_like(upright.area, 0.1), atol=1e-4, rtol=0)
    assert 80 < torch.rad2deg(cells[2].angle.abs().max()) <= 90
    assert CROPPING.boxes.scale == (0.05, 0.48)  # unchanged


def test_it_applies_to_the_method_and_cropping_of_cim(context_with_logits, context):
    built = context_with_logits(lambda crops: crops.maps.float())
    assert grid().applies(built) is None
    built.data.cropping = ResizeCropper(16)
    assert grid().applies(built) == "needs the cropping of CIM's pre-training"
    assert grid().applies(context()) == "needs a checkpoint of CIM"
    other = SimpleNamespace(batch_type=ImageBatch, decoder=None)  # such as MAE, which has a decoder too
    assert grid().applies(context(method=other)) == "needs a checkpoint of CIM"


def test_the_passes_are_those_of_the_context_and_of_the_exemplars(context_with_logits):
    built = context_with_logits(lambda crops: crops.maps.float(), images=40)
    # 7 croppings of 40 images; 16 x 16 pixels of the context, 4 exemplars of 8 x 8, and views of 16 x 16.
    assert grid(50).forward_passes(built) == 7 * 40 * (256 + 4 * 64) / 256


def test_only_the_first_process_writes_files(context_with_logits, tmp_path):
    built = context_with_logits(lambda crops: crops.maps.float())
    built.rank = 1
    assert grid()(built)["iou"] == 1
    assert not list(tmp_path.iterdir())


def test_invalid_settings_raise():
    with pytest.raises(ConfigError, match=r"^num_images=0: .*try num_images=1$"):
        grid(0)


@pytest.mark.parametrize(("scales", "rotations"), [([0.0], [0]), ([1.1], [0]), ([0.1], [-1]), ([0.1], [181])])
def test_scales_and_rotations_are_checked_before_anything_runs(scales, rotations):
    with pytest.raises(ConfigError, match=r"^(scales|rotations)=\[.*\]: must be .*; try (scales|rotations)="):
        CorrelationGrid(scales, rotations, 4)
