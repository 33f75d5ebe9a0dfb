"""Exemplars, contexts and maps: positions from coordinate images, and resampling quality."""

import dataclasses
import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cim_lightning.cropping.boxes import BoxSampler
from cim_lightning.data.synthetic.dataset import SyntheticScenes
from cim_lightning.errors import ConfigError
from cim_lightning.image_random import ImageRandom, image_seeds

PHOTOGRAPHS = Path(__file__).parents[3] / "shared/data/imagenet-sample-200/imagenet-sample-200.tar"


def coordinate_views(b: int, height: int, width: int) -> torch.Tensor:
    """Return images whose two channels are the x and y index of each pixel."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x, y)).to(torch.uint8).expand(b, -1, -1, -1)


def fit_affine(exemplar: torch.Tensor, view: tuple[int, int]) -> np.ndarray:
    """Fit the affine map (u, v, 1) -> (x, y), u and v in -0.5..0.5, of an exemplar of coordinates."""
    values = exemplar.double().numpy() * 255  # a value of i is position i + 0.5
    side = values.shape[-1]
    v, u = np.meshgrid(*[(np.arange(side) + 0.5) / side - 0.5] * 2, indexing="ij")
    limits = np.array([view[1], view[0]])[:, None, None]
    inner = ((values >= 2) & (values <= limits - 3)).all(axis=0)  # values at the border are clamped
    inner[[0, -1]] = inner[:, [0, -1]] = False
    design = np.stack([u[inner], v[inner], np.ones(inner.sum())], axis=-1)
    solution, residual, rank, _ = np.linalg.lstsq(design, values[:, inner].T + 0.5, rcond=None)
    assert inner.sum() >= 9
    assert rank == 3
    assert residual.max() < 1e-4  # the map is affine
    return solution.T


def implied_map(affine: np.ndarray, view, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which centers of a side x side raster are in the box, and their distance from its edges."""
    x, y = ((np.arange(side) + 0.5) * length / side for length in (view[1], view[0]))
    offsets = np.stack(np.meshgrid(x, y), axis=-1) - affine[:, 2]
    local = np.abs(offsets @ np.linalg.inv(affine[:, :2]).T)
    distance = np.abs((local - 0.5) * np.linalg.norm(affine[:, :2], axis=0)).min(axis=-1)
    return (local <= 0.5).all(axis=-1), distance


SIZES = [
    ((224, 224), 160, 64),
    ((131, 197), 53, 29),
    ((97, 101), 97, 97),
    ((256, 256), 37, 11),
    ((32, 32), 32, 16),
]


@pytest.mark.parametrize(("view", "context", "exemplar"), SIZES)
def test_a_map_is_true_exactly_where_its_exemplar_was_cropped(plain, view, context, exemplar):
    b, k = 6, 5
    crop = plain(num_exemplars=k, context_size=context, exemplar_size=exemplar, flip=0.5)
    params = crop.sample(view, ImageRandom(image_seeds(3, b)))
    crops = crop.apply(coordinate_views(b, *view), params)
    assert 0 < params.flipped.sum() < b * k
    assert (params.boxes.angle.abs() > 0.1).any()
    for i in range(b):
        for j in range(k):
            affine = fit_affine(crops.exemplars[i, j], view)
            expected, distance = implied_map(affine, view, context)
            wrong = (crops.maps[i, j].numpy() != expected) & (distance > 1e-2)
            assert not wrong.any()
            assert (np.linalg.det(affine[:, :2]) < 0) == params.flipped[i, j].item()


@pytest.mark.parametrize(("view", "context"), [((224, 224), 160), ((131, 197), 53), ((97, 101), 97)])
def test_context_and_maps_have_the_same_raster(plain, view, context):
    context_values = plain(context_size=context)(coordinate_views(1, *view), 0).context[0] * 255 + 0.5
    inner = slice(6, -6)  # bicubic weights reach over the border
    x, y = ((torch.arange(context) + 0.5) * length / context for length in (view[1], view[0]))
    torch.testing.assert_close(context_values[0, 9, inner], x[inner], atol=0.05, rtol=0)
    torch.testing.assert_close(context_values[1, inner, 9], y[inner], atol=0.05, rtol=0)


def test_a_context_of_the_views_size_is_the_view(plain, views):
    assert torch.equal(plain(context_size=56)(views, 0).context, views / 255)


def test_a_flipped_exemplar_is_mirrored_horizontally(plain, views):
    crop = plain()
    params = crop.sample((56, 56), ImageRandom(image_seeds(5, 4)))
    flipped = crop.apply(views, dataclasses.replace(params, flipped=torch.ones(4, 3, dtype=torch.bool)))
    straight = crop.apply(views, params)
    torch.testing.assert_close(flipped.exemplars, straight.exemplars.flip(-1), atol=1e-4, rtol=0)
    assert torch.equal(flipped.maps, straight.maps)


def assert_antialiased(plain, images: list[Image.Image]) -> None:
    """Compare exemplars with Pillow's antialiased bicubic crops of the same upright boxes."""
    crop = plain(num_exemplars=6, rotation=0.0, context_size=160, exemplar_size=64)
    views = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
    params = crop.sample((224, 224), ImageRandom(image_seeds(0, len(images))))
    exemplars = crop.apply(views, params).exemplars
    psnr = []
    for i, image in enumerate(images):
        corners = params.boxes.corners[i, :, ::2].flatten(1).clamp(0, 224).tolist()
        for exemplar, box in zip(exemplars[i], corners, strict=True):
            pillow = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC, box=tuple(box)))
            error = exemplar - torch.from_numpy(pillow.copy()).permute(2, 0, 1) / 255
            psnr.append(-10 * error.square().mean().log10())
    decibels = torch.stack(psnr)
    assert decibels.median() >= 40
    assert decibels.quantile(0.05) >= 35


@pytest.mark.skipif(not PHOTOGRAPHS.is_file(), reason="needs the photographs of ../shared/data")
def test_exemplars_of_photographs_are_antialiased_like_pillows(plain):
    images = []
    with tarfile.open(PHOTOGRAPHS) as archive:
        for member in [m for m in archive.getmembers() if m.name.endswith(".JPEG")][:48]:
            image = Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB")
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            box = (left, top, left + side, top + side)
            images.append(image.resize((224, 224), Image.Resampling.BICUBIC, box=box))
    assert_antialiased(plain, images)


def test_exemplars_of_synthetic_scenes_are_antialiased_like_pillows(plain):
    scenes = SyntheticScenes(24, 224, 0)
    assert_antialiased(plain, [scenes[i][0] for i in range(24)])


def test_a_box_of_the_size_of_the_exemplar_is_copied_pixel_by_pixel(plain, views):
    crop = plain(num_exemplars=1, context_size=56, exemplar_size=16)  # larger boxes would be averaged
    params = crop.sample((56, 56), ImageRandom(image_seeds(0, 4)))
    center, size = torch.full((4, 1, 2), 20.0), torch.full((4, 1, 2), 16.0)
    boxes = dataclasses.replace(params.boxes, center=center, size=size, angle=torch.zeros(4, 1))
    exemplars = crop.apply(views, dataclasses.replace(params, boxes=boxes)).exemplars
    torch.testing.assert_close(exemplars[:, 0], views[:, :, 12:28, 12:28] / 255, atol=1e-4, rtol=0)


def test_a_uniform_view_gives_uniform_exemplars(plain):
    exemplars = plain()(torch.full((2, 3, 50, 70), 51, dtype=torch.uint8), 0).exemplars
    torch.testing.assert_close(exemplars, torch.full_like(exemplars, 0.2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels_is_cropped(cropper, views, channels):
    crops = cropper()(views[:, :1].expand(-1, channels, -1, -1), 0)
    assert crops.context.shape == (4, channels, 40, 40)
    assert crops.exemplars.shape == (4, 3, channels, 16, 16)


@pytest.mark.parametrize(
    ("mistake", "message", "suggestion"),
    [
        ({"num_exemplars": 0}, "num_exemplars=0", "1"),
        ({"context_size": -3}, "context_size=-3", "1"),
        ({"exemplar_size": 0}, "exemplar_size=0", "1"),
        ({"flip": 1.5}, "flip=1.5", "1.0"),
    ],
)
def test_a_mistake_gets_one_line_with_a_suggestion(cropper, mistake, message, suggestion):
    (name,) = mistake
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}: [^\n]*; try {name}={suggestion}$"):
        cropper(**mistake)


def test_an_exemplar_larger_than_the_view_is_refused(cropper, views):
    with pytest.raises(ConfigError, match=r"^exemplar_size=57: .*56x80.*; try exemplar_size=56$"):
        cropper(exemplar_size=57).sample((56, 80), ImageRandom(image_seeds(0, 2)))
    assert cropper(exemplar_size=56)(views, 0).exemplars.shape[-1] == 56


def test_replace_changes_the_boxes_of_a_copy_only(cropper, views):
    crop = cropper()
    changed = dataclasses.replace(crop, scale=[0.2, 0.2], ratio=[1, 1], rotation=0)
    assert changed.boxes == BoxSampler([0.2, 0.2], [1, 1], 0)
    torch.testing.assert_close(changed(views, 0).boxes.area, torch.full((4, 3), 0.2))
    assert crop(views, 0).boxes.area.std() > 0.05
