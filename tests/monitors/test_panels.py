"""Correlation panels: when they are drawn, and that what they show is what the cropping saw."""

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from kornia.enhance import Normalize
from PIL import Image

from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.monitors.panels import CorrelationPanels, _over, _pixels, draw


def cropper(channels: int = 3) -> ExemplarCropper:
    normalize = Normalize(
        torch.tensor([0.485, 0.456, 0.406][:channels]), torch.tensor([0.2, 0.3, 0.4][:channels])
    )
    return ExemplarCropper(3, [0.1, 0.4], [0.5, 2.0], 45, 24, 8, flip=0.5, normalize=normalize)


def views(channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (5, channels, 24, 24), dtype=torch.uint8, generator=generator)


def validate(folder: Path, trainer, crops=None, every: int = 1, batch_idx: int = 0) -> list[str]:
    """The panels that a validation batch leaves."""
    crops = crops or cropper()(views(), 0)
    trainer.datamodule = Mock(cropping=cropper(crops.context.shape[1]))
    method = Mock(side_effect=lambda seen: torch.zeros(seen.maps.shape))
    monitor = CorrelationPanels(str(folder), num_images=2, every_n_epochs=every)
    monitor.on_validation_batch_end(trainer, method, None, (crops, None), batch_idx)
    if method.called:
        assert len(method.call_args.args[0].context) == 2  # it need not look at more
    return sorted(path.name for path in folder.glob("*"))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_picture_named_by_its_step_is_written_whatever_the_channels(tmp_path, make_trainer, channels):
    names = validate(
        tmp_path / "panels", make_trainer(global_step=1234), cropper(channels)(views(channels), 0)
    )
    assert names == ["step-00001234.png"]
    with Image.open(tmp_path / "panels" / names[0]) as image:
        assert image.size[0] > 500
        assert np.asarray(image.convert("RGB")).std() > 10


@pytest.mark.parametrize(
    ("changes", "every", "due"),
    [
        ({"current_epoch": 5}, 3, True),  # epochs count from 0
        ({"current_epoch": 4}, 3, False),
        ({"current_epoch": 4, "global_step": 100}, 3, True),  # the last step
        ({"current_epoch": 0, "fn": "validate"}, 3, True),  # before training
        ({"is_global_zero": False}, 1, False),
    ],
)
def test_epochs_when_one_is_due(tmp_path, make_trainer, changes, every, due):
    assert len(validate(tmp_path, make_trainer(**changes), every=every)) == due


def test_only_the_first_batch_is_drawn_and_only_crops_are(tmp_path, make_trainer):
    assert validate(tmp_path, make_trainer(), batch_idx=1) == []
    monitor = CorrelationPanels(str(tmp_path), num_images=2, every_n_epochs=1)
    monitor.on_validation_batch_end(make_trainer(), Mock(), None, (torch.zeros(2, 3, 8, 8), None), 0)
    assert list(tmp_path.glob("*")) == []


def test_loggers_that_can_show_pictures_get_the_file(tmp_path, make_trainer):
    plain, pictures = Mock(spec=["log_metrics"]), Mock(spec=["log_image"])
    validate(tmp_path, make_trainer(loggers=[plain, pictures]))
    pictures.log_image.assert_called_once_with("panels", [str(tmp_path / "step-00000050.png")], step=50)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalisation_is_undone_exactly(channels):
    image = views(channels)[0].float() / 255
    normalize = cropper(channels).normalize
    shown = _pixels(normalize(image[None])[0], normalize)
    assert shown.shape == (24, 24, 3)
    np.testing.assert_allclose(shown, image.expand(3, -1, -1).permute(1, 2, 0), atol=1e-6)


def test_without_normalisation_pixels_are_shown_as_they_are():
    image = torch.tensor([0.25, 1.5, -1.0])[:, None, None].expand(3, 4, 4)
    np.testing.assert_array_equal(_pixels(image, lambda images: images)[0, 0], [0.25, 1.0, 0.0])


def test_of_more_than_three_channels_the_first_three_are_shown():
    image = torch.rand(5, 4, 4)
    np.testing.assert_allclose(_pixels(image, lambda images: images), image[:3].permute(1, 2, 0), atol=1e-6)


def test_a_map_is_heat_over_grey():
    context = np.zeros((1, 2, 3))
    context[0, :, 0] = 0.6  # red, so a grey of 0.2
    colours = np.array([[[1.0, 0.5, 0.25, 1.0], [0.0, 0.0, 1.0, 1.0]]])
    seen = _over(context, np.array([[0.0, 1.0]]), lambda share: colours)
    np.testing.assert_allclose(seen, 0.07 + 0.65 * colours[..., :3])


def test_outlines_are_the_boxes_in_the_contexts_pixels_and_tiles_the_exemplars_and_maps():
    crops = cropper()(views().repeat_interleave(2, dim=-1), 0)  # a view of 24x48 seen in a context of 24x24
    figure = draw(crops, torch.zeros(crops.maps.shape), cropper().normalize)
    axes = figure.axes
    assert len(axes) == 5 * (1 + 3 * 3)
    drawn = np.array([line.get_xydata()[:4] for line in axes[10].lines])  # the second image's
    expected = crops.boxes.corners[1].numpy() * np.array([0.5, 1.0]) - 0.5
    np.testing.assert_allclose(drawn, expected, atol=1e-4)
    exemplar = axes[11].images[0].get_array()
    np.testing.assert_allclose(exemplar, _pixels(crops.exemplars[1, 0], cropper().normalize))
    hot = axes[12].images[0].get_array()
    cold = axes[13].images[0].get_array()
    np.testing.assert_array_equal((np.abs(hot - cold) > 0.1).any(axis=-1), crops.maps[1, 0])
