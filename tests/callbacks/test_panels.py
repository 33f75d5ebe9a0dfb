"""Correlation panels: content, colors, and when they are drawn."""

from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import lightning as L
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from cim_lightning.callbacks.panels import CorrelationPanels, _first, _overlay, _pixels, draw, swap_exemplars
from cim_lightning.cropping.exemplars import Crops, ExemplarCropper


def crops_of(b: int = 3, k: int = 2, channels: int = 3) -> Crops:
    cropper = ExemplarCropper(k, [0.1, 0.4], [0.5, 2.0], 45, 32, 16, 0.5, appearance=None)
    generator = torch.Generator().manual_seed(0)
    return cropper(
        torch.randint(0, 256, (b, channels, 40, 40), dtype=torch.uint8, generator=generator), seeds=1
    )


def rendered(figure: Any) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def drawn(crops: Crops) -> Any:
    return draw(crops, crops.maps.float(), crops.maps[:, 0].float())


def test_pixels_of_an_image_in_0_to_1_are_shown_unchanged():
    image = torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(1))
    np.testing.assert_array_equal(_pixels(image), image.permute(1, 2, 0))


def test_one_channel_is_shown_as_gray_and_the_first_three_of_many():
    gray = torch.rand(1, 4, 4)
    np.testing.assert_allclose(_pixels(gray), gray.permute(1, 2, 0).expand(4, 4, 3))
    many = torch.rand(5, 4, 4)
    np.testing.assert_allclose(_pixels(many), many[:3].permute(1, 2, 0))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_panel_is_drawn(channels):
    crops = crops_of(channels=channels)
    picture = rendered(drawn(crops))
    assert picture.std() > 20
    assert picture[-1, -1].tolist() == [255, 255, 255]  # the margin


@pytest.mark.parametrize("channels", [1, 4])
def test_dark_images_are_brightened_and_their_exemplars_by_the_same_factor(channels):
    bright = crops_of(b=2, channels=channels)
    scale = torch.tensor([1 / 64, 0.75])[:, None, None, None]  # of the two images; powers of 2 are exact
    context = bright.context / bright.context[:, :3].amax(dim=(1, 2, 3), keepdim=True)
    normalized = bright._replace(context=context, exemplars=bright.exemplars / 2)
    scaled = normalized._replace(context=context * scale, exemplars=normalized.exemplars * scale[:, None])
    scaled.context[:, 3:] = 0.9  # is not shown
    expected, found = (rendered(drawn(crops)) for crops in (normalized, scaled))
    middle = len(found) // 2
    own = found.shape[1] * 4 // 5  # without the exemplar of the other image
    np.testing.assert_array_equal(found[:middle, :own], expected[:middle, :own])
    assert found[middle:].mean() < expected[middle:].mean()  # is not dark, so it is shown as it is


def test_a_box_is_where_its_map_is():
    crops = crops_of(b=1, k=1)
    expected = crops.maps[0, 0].nonzero().float().mean(dim=0).flip(0) / 32  # center of the map, x and y, 0..1
    figure = drawn(crops)
    (axes,) = figure.axes
    outline = next(patch for patch in axes.patches if type(patch).__name__ == "Polygon")
    left, right, bottom, top = axes.images[0].get_extent()  # the context
    center = outline.get_xy()[:4].mean(axis=0)
    np.testing.assert_allclose((center - (left, top)) / (right - left, bottom - top), expected, atol=0.03)


def test_the_prediction_changes_the_last_row_only():
    crops = crops_of(b=1, k=2)
    none = rendered(draw(crops, torch.zeros(1, 2, 32, 32), torch.zeros(1, 32, 32)))
    true = rendered(drawn(crops))
    rows = np.flatnonzero((none != true).any(axis=(1, 2)))
    assert len(rows)
    assert rows.min() > 0.66 * len(none)


def test_the_last_column_has_the_first_exemplar_of_the_next_image_and_an_empty_map():
    crops = crops_of(b=3, k=2)
    foreign = torch.rand(3, 32, 32)
    figure = draw(crops, crops.maps.float(), foreign)
    (axes,) = figure.axes
    assert len([patch for patch in axes.patches if type(patch).__name__ == "Polygon"]) == 3 * 2
    assert len(axes.images) == 3 * (1 + 3 * 3)
    tiles = [tuple(image.get_extent()) for image in axes.images]
    assert len({*tiles}) == len(tiles)
    for i, following in enumerate((1, 2, 0)):
        _, first, *_, shown, true, predicted = axes.images[10 * i : 10 * i + 10]
        np.testing.assert_array_equal(shown.get_array(), _pixels(crops.exemplars[following, 0]))
        np.testing.assert_array_equal(
            true.get_array(), _overlay(_pixels(crops.context[i]), torch.zeros(32, 32))
        )
        np.testing.assert_array_equal(predicted.get_array(), _overlay(_pixels(crops.context[i]), foreign[i]))
        assert shown.get_extent()[0] > first.get_extent()[0] + 2
        assert shown.get_extent()[1] <= axes.get_xlim()[1]
    assert [text.get_text() for text in axes.texts][2:] == ["foreign"]


def test_a_foreign_exemplar_is_as_bright_as_in_its_own_row():
    crops = crops_of(b=2, k=1)
    context = crops.context / crops.context.amax(dim=(1, 2, 3), keepdim=True)
    context[1] /= 4
    (axes,) = drawn(crops._replace(context=context)).axes
    foreign, own = axes.images[4], axes.images[8]  # 1 + 3 own + 3 foreign tiles per image
    np.testing.assert_array_equal(foreign.get_array(), own.get_array())
    np.testing.assert_allclose(own.get_array(), _pixels(crops.exemplars[1, 0] * 4), atol=1e-6)


def test_one_image_has_no_foreign_exemplar():
    (axes,) = drawn(crops_of(b=1, k=2)).axes
    assert len(axes.images) == 1 + 3 * 2
    assert len(axes.texts) == 2


class Wrapped(NamedTuple):
    """A batch of a method with more than crops."""

    crops: Crops
    mask: torch.Tensor
    num_masked: int

    @property
    def num_images(self) -> int:
        return self.crops.num_images


def test_exemplars_are_swapped_in_crops_and_in_batches_that_have_crops():
    crops = crops_of(b=3)
    swapped = swap_exemplars(Wrapped(crops, torch.zeros(3, 2, 2), 1))
    for found in (swapped.crops, swap_exemplars(crops)):
        for i, following in enumerate((1, 2, 0)):
            assert torch.equal(found.exemplars[i], crops.exemplars[following])
        assert torch.equal(found.context, crops.context)
    first = _first(swapped, 2)
    assert (first.num_images, len(first.mask), first.num_masked) == (2, 2, 1)
    assert first.crops.boxes.center.shape[0] == 2


class Method(L.LightningModule):
    """A method whose logits are all 0."""

    def forward(self, batch: Any) -> torch.Tensor:
        return torch.zeros(getattr(batch, "crops", batch).maps.shape)


@pytest.mark.parametrize("labels", [(), (torch.zeros(3),)])
def test_batches_that_have_crops_are_drawn(labels, tmp_path):
    panels = CorrelationPanels(str(tmp_path / "panels"), num_images=2, every_n_epochs=1)
    batch = Wrapped(crops_of(), torch.zeros(3, 2, 2), 1)
    panels.on_validation_batch_end(
        trainer(current_epoch=0, global_step=12), Method(), None, (batch, *labels) if labels else batch, 0
    )
    assert (tmp_path / "panels" / "step-00000012.png").exists()


def trainer(**state: Any) -> Any:
    mock: Any = MagicMock(spec=L.Trainer, is_global_zero=True, estimated_stepping_batches=100)
    mock.loggers = [
        SimpleNamespace(experiment=None),
        SimpleNamespace(log_image=MagicMock()),
        SimpleNamespace(experiment=SimpleNamespace(add_image=MagicMock())),
    ]
    mock.state = SimpleNamespace(fn=state.pop("fn", "fit"))
    for name, value in state.items():
        setattr(mock, name, value)
    return mock


def test_the_first_validation_batch_becomes_a_png_and_is_sent_to_loggers_with_images(tmp_path):
    panels = CorrelationPanels(str(tmp_path / "panels"), num_images=2, every_n_epochs=1)
    run = trainer(current_epoch=0, global_step=12)
    batch = (crops_of(), torch.zeros(3))
    for i in range(2):
        panels.on_validation_batch_end(run, Method(), None, batch, i)
    (path,) = (tmp_path / "panels").iterdir()
    assert path.name == "step-00000012.png"
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 100
    run.loggers[1].log_image.assert_called_once_with("panels", [str(path)], step=11)
    run.loggers[2].experiment.add_image.assert_called_once()


@pytest.mark.parametrize(
    ("state", "due"),
    [
        ({"fn": "validate", "current_epoch": 0, "global_step": 0}, True),  # before training
        ({"current_epoch": 0, "global_step": 10}, False),
        ({"current_epoch": 2, "global_step": 30}, True),
        ({"current_epoch": 3, "global_step": 100}, True),  # the last
        ({"current_epoch": 2, "global_step": 30, "is_global_zero": False}, False),
    ],
)
def test_panels_are_drawn_before_training_every_n_epochs_and_at_the_end(state, due, tmp_path):
    panels = CorrelationPanels(str(tmp_path / "panels"), num_images=1, every_n_epochs=3)
    panels.on_validation_batch_end(trainer(**state), Method(), None, (crops_of(), torch.zeros(3)), 0)
    assert (tmp_path / "panels").exists() is due
