"""Dense evaluation of backbones whose grid is the mean color, on images whose colors are the classes."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cim_lightning.data.loader import Loading
from cim_lightning.data.segmentation import SegmentationSplits
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation import dense as dense_module
from cim_lightning.evaluation.context import EvalContext, Evaluator
from cim_lightning.evaluation.dense import Dense
from cim_lightning.evaluation.distributed import BatchRows
from cim_lightning.evaluation.segmentation.sliding_window import SlidingWindow
from cim_lightning.models.module_backbone import ModuleBackbone

COLORS = np.array([[200, 40, 30], [40, 180, 60], [20, 60, 220]], np.uint8)


class Stripes:
    """Vertical stripes of 8 pixels in the colors of their classes; the first stripe is ignored.

    With `shuffled`, the masks have the classes of other stripes.
    """

    def __init__(self, count: int, seed: int, shuffled: bool = False):
        self.count, self.seed, self.shuffled = count, seed, shuffled

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]:
        rng = np.random.default_rng((self.seed, index))
        stripes = rng.integers(0, 3, 5)
        image, stripes = COLORS[stripes], rng.integers(0, 3, 5) if self.shuffled else stripes
        mask = stripes.repeat(8)[None].repeat(16, 0).astype(np.uint8)
        mask[:, :8] = 255
        return Image.fromarray(image.repeat(8, 0)[None].repeat(16, 0)), mask


def source(train: int = 12, shuffled: bool = False) -> Any:
    splits = SegmentationSplits(Stripes(train, 0, shuffled), Stripes(5, 1, shuffled), ["r", "g", "b"])
    return lambda: splits


def context(folder: Path, patch: int = 8, rank: int = 0, world_size: int = 1) -> EvalContext:
    backbone = ModuleBackbone(nn.AvgPool2d(patch), 3, patch).eval()
    data = SimpleNamespace(loading=Loading(0, None), view=SimpleNamespace(size=16))
    cpu = torch.device("cpu")
    return EvalContext(backbone, None, data, cpu, folder, 0, {}, rank=rank, world_size=world_size)


def dense(**changes: Any) -> Dense:
    settings = {"source": source(), "inference": SlidingWindow(None, None, 0.0), "num_cells": 1000}
    settings |= {"k": 3, "temperature": 0.02, "weight_decay": 1e-5, "steps": 50}
    return Dense(**settings | {"num_train": None, "num_val": None} | changes)


@pytest.mark.parametrize("inference", [SlidingWindow(None, None, 0.0), SlidingWindow(32, 16, 0.0)])
@pytest.mark.parametrize("patch", [1, 8])
def test_a_grid_of_classes_gives_100_percent(tmp_path: Path, patch: int, inference: SlidingWindow) -> None:
    numbers = dense(inference=inference)(context(tmp_path, patch))
    assert set(numbers) == {"knn_miou", "knn_pixel_accuracy", "linear_miou", "linear_pixel_accuracy"}
    exact = inference.short_side is None and patch == 1  # else interpolation moves edges by some pixels
    for value in numbers.values():
        assert value == 100 if exact else 80 < value <= 100, numbers


def test_k_nn_is_exact_at_the_edges_of_cells(tmp_path: Path) -> None:
    assert dense()(context(tmp_path, 8))["knn_pixel_accuracy"] == 100


def test_shuffled_classes_give_chance(tmp_path: Path) -> None:
    numbers = dense(source=source(60, shuffled=True), k=30)(context(tmp_path, 8))
    assert numbers["knn_pixel_accuracy"] == pytest.approx(100 / 3, abs=25)  # 20 stripes
    assert numbers["linear_pixel_accuracy"] == pytest.approx(100 / 3, abs=25)


def test_the_number_of_cells_is_bounded_and_recorded(tmp_path: Path) -> None:
    built = context(tmp_path, 4)  # 4 x 8 labeled cells per image
    dense(num_cells=50)(built)
    assert (built.protocol["train_images"], built.protocol["train_cells"]) == (12, 12 * 4)
    dense(num_cells=7)(built)
    assert (built.protocol["train_images"], built.protocol["train_cells"]) == (7, 7)
    dense(num_train=3, num_val=2)(built)
    assert [built.protocol[key] for key in ("train_images", "train_cells", "val_images")] == [3, 96, 2]
    assert built.protocol["k"] == 3


def test_settings_reach_the_two_classifiers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: dict[str, set[tuple]] = {"vote": set(), "fit_head": set()}
    lengths = []

    def spy(name: str) -> Any:
        original = getattr(dense_module, name)

        def call(*args: Any) -> Any:
            calls[name].add(args[-2:])
            if name == "vote":
                lengths.append(args[0].norm(dim=1))
            return original(*args)

        return call

    for name in calls:
        monkeypatch.setattr(dense_module, name, spy(name))
    dense(k=10**6, temperature=0.3, weight_decay=0.2, steps=7)(context(tmp_path, 8))
    assert calls["vote"] == {(12 * 8, 0.3)}  # at most as many neighbors as there are cells
    assert calls["fit_head"] == {(0.2, 7)}
    torch.testing.assert_close(lengths[0], torch.ones(12 * 8))


def test_processes_sample_the_same_cells_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collected: list[list[torch.Tensor]] = []

    def gather(parts: BatchRows, device: torch.device) -> torch.Tensor:
        assert parts.rows is not None
        collected.append(list(parts.rows.split(parts.sizes)))
        return parts.rows

    monkeypatch.setattr(dense_module, "gather_batches", gather)
    evaluator = dense(source=source(5), num_cells=20)
    for rank, world_size in ((0, 1), (0, 2), (1, 2)):
        evaluator._collect(evaluator.source(), context(tmp_path, 4, rank, world_size))
    one, first, second = collected[::2]
    assert (len(one), len(first), len(second)) == (5, 3, 2)
    for i, cells in enumerate(one):
        assert torch.equal(cells, (first, second)[i % 2][i // 2])


def test_it_applies_with_masks_only_and_estimates_its_images(tmp_path: Path) -> None:
    assert isinstance(dense(), Evaluator)
    assert dense().applies(context(tmp_path)) is None
    assert dense(source=None).applies(context(tmp_path)) == "needs images with masks"
    # An image of 16 x 40 pixels has 2.5 times the pixels of a view.
    assert dense().forward_passes(context(tmp_path)) == 17 * 2.5
    assert dense(num_cells=4, num_val=2).forward_passes(context(tmp_path)) == 6 * 2.5


def test_features_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    built = context(tmp_path)
    built.backbone.module = nn.Sequential(nn.AvgPool2d(8), nn.Threshold(1e9, float("nan")))
    with pytest.raises(ConfigError, match="not finite"):
        dense()(built)


def test_masks_without_classes_are_an_error(tmp_path: Path) -> None:
    class Ignored(Stripes):
        def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]:
            image, mask = super().__getitem__(index)
            return image, np.full_like(mask, 255)

    splits = SegmentationSplits(Ignored(3, 0), Ignored(3, 0), ["r", "g", "b"])
    with pytest.raises(ConfigError, match="no labeled pixels; check ignore"):
        dense(source=lambda: splits)(context(tmp_path))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("num_cells", 0), ("k", 0), ("temperature", 0), ("weight_decay", -1), ("steps", 0), ("num_val", 0)],
)
def test_invalid_settings_raise(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{setting}={value}: ')}[^\n]*; try {setting}="):
        dense(**{setting: value})
