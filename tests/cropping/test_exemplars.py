"""Exemplars, contexts and maps: where they come from, told by their own values, and how well they are cut."""

import dataclasses
import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cim_lightning.data.synthetic.scenes import SyntheticScenes
from cim_lightning.errors import ConfigError

PHOTOGRAPHS = Path(__file__).parents[3] / "shared/data/imagenet-sample-200/imagenet-sample-200.tar"


def coordinate_views(b: int, height: int, width: int) -> torch.Tensor:
    """Images whose two channels are each pixel's own x and y index."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x, y)).to(torch.uint8).expand(b, -1, -1, -1)


def placed(exemplar: torch.Tensor, view: tuple[int, int]) -> np.ndarray:
    """The affine map (u, v, 1) -> (x, y), u and v in -0.5..0.5, that an exemplar of coordinates implies."""
    values = exemplar.double().numpy() * 255  # a value of i says: position i + 0.5
    side = values.shape[-1]
    v, u = np.meshgrid(*[(np.arange(side) + 0.5) / side - 0.5] * 2, indexing="ij")
    limits = np.array([view[1], view[0]])[:, None, None]
    inner = ((values >= 2) & (values <= limits - 3)).all(axis=0)  # the view's border is clamped, so says less
    inner[[0, -1]] = inner[:, [0, -1]] = False
    design = np.stack([u[inner], v[inner], np.ones(inner.sum())], axis=-1)
    solution, residual, rank, _ = np.linalg.lstsq(design, values[:, inner].T + 0.5, rcond=None)
    assert inner.sum() >= 9
    assert rank == 3
    assert residual.max() < 1e-4  # it is affine
    return solution.T


def implied_map(affine: np.ndarray, view, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Which centers of a side x side raster lie in the quadrilateral, and how far they are from its edges."""
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
def test_a_map_is_true_exactly_where_its_exemplars_values_say_it_came_from(plain, view, context, exemplar):
    b, k = 6, 5
    crop = plain(num_exemplars=k, context_size=context, exemplar_size=exemplar, flip=0.5)
    plan = crop.sample(b, view, torch.Generator().manual_seed(3))
    crops = crop.apply(coordinate_views(b, *view), plan)
    assert 0 < plan.flipped.sum() < b * k
    assert (plan.boxes.angle.abs() > 0.1).any()
    for i in range(b):
        for j in range(k):
            affine = placed(crops.exemplars[i, j], view)
            expected, distance = implied_map(affine, view, context)
            wrong = (crops.maps[i, j].numpy() != expected) & (distance > 1e-2)
            assert not wrong.any()
            assert (np.linalg.det(affine[:, :2]) < 0) == plan.flipped[i, j].item()


@pytest.mark.parametrize(("view", "context"), [((224, 224), 160), ((131, 197), 53), ((97, 101), 97)])
def test_context_and_maps_share_one_raster(plain, view, context):
    seen = plain(context_size=context)(coordinate_views(1, *view), 0).context[0] * 255 + 0.5
    inner = slice(6, -6)  # bicubic weights reach over the border
    x, y = ((torch.arange(context) + 0.5) * length / context for length in (view[1], view[0]))
    torch.testing.assert_close(seen[0, 9, inner], x[inner], atol=0.05, rtol=0)
    torch.testing.assert_close(seen[1, inner, 9], y[inner], atol=0.05, rtol=0)


def test_a_context_of_the_views_size_is_the_view(plain, views):
    assert torch.equal(plain(context_size=56)(views, 0).context, views / 255)


def test_a_flipped_exemplar_is_mirrored_left_to_right(plain, views):
    crop = plain()
    plan = crop.sample(4, (56, 56), torch.Generator().manual_seed(5))
    flipped = crop.apply(views, dataclasses.replace(plan, flipped=torch.ones(4, 3, dtype=torch.bool)))
    straight = crop.apply(views, plan)
    torch.testing.assert_close(flipped.exemplars, straight.exemplars.flip(-1), atol=1e-4, rtol=0)
    assert torch.equal(flipped.maps, straight.maps)


def assert_antialiased(plain, images: list[Image.Image]) -> None:
    """Exemplars against Pillow's antialiased bicubic crops of the same upright boxes."""
    crop = plain(num_exemplars=6, rotation=0.0, context_size=160, exemplar_size=64)
    views = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
    plan = crop.sample(len(images), (224, 224), torch.Generator().manual_seed(0))
    exemplars = crop.apply(views, plan).exemplars
    psnr = []
    for i, image in enumerate(images):
        corners = plan.boxes.corners[i, :, ::2].flatten(1).clamp(0, 224).tolist()
        for exemplar, box in zip(exemplars[i], corners, strict=True):
            pillow = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC, box=tuple(box)))
            error = exemplar - torch.from_numpy(pillow.copy()).permute(2, 0, 1) / 255
            psnr.append(-10 * error.square().mean().log10())
    decibels = torch.stack(psnr)
    assert decibels.median() >= 40
    assert decibels.quantile(0.05) >= 35


@pytest.mark.skipif(not PHOTOGRAPHS.is_file(), reason="needs the photographs of ../shared/data")
def test_exemplars_of_photographs_are_antialiased_as_pillows(plain):
    images = []
    with tarfile.open(PHOTOGRAPHS) as archive:
        for member in [m for m in archive.getmembers() if m.name.endswith(".JPEG")][:48]:
            image = Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB")
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            box = (left, top, left + side, top + side)
            images.append(image.resize((224, 224), Image.Resampling.BICUBIC, box=box))
    assert_antialiased(plain, images)


def test_exemplars_of_synthetic_scenes_are_antialiased_as_pillows(plain):
    scenes = SyntheticScenes(24, 224, 0)
    assert_antialiased(plain, [scenes[i][0] for i in range(24)])


def test_a_box_of_the_exemplars_own_size_is_copied_pixel_by_pixel(plain, views):
    crop = plain(num_exemplars=1, context_size=56, exemplar_size=16)  # larger boxes would be averaged
    plan = crop.sample(4, (56, 56), torch.Generator())
    center, size = torch.full((4, 1, 2), 20.0), torch.full((4, 1, 2), 16.0)
    boxes = dataclasses.replace(plan.boxes, center=center, size=size, angle=torch.zeros(4, 1))
    exemplars = crop.apply(views, dataclasses.replace(plan, boxes=boxes)).exemplars
    torch.testing.assert_close(exemplars[:, 0], views[:, :, 12:28, 12:28] / 255, atol=1e-4, rtol=0)


def test_a_uniform_view_gives_uniform_exemplars_up_to_its_border(plain):
    exemplars = plain()(torch.full((2, 3, 50, 70), 51, dtype=torch.uint8), 0).exemplars
    torch.testing.assert_close(exemplars, torch.full_like(exemplars, 0.2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channel_counts_are_cropped_too(cropper, views, channels):
    crops = cropper()(views[:, :1].expand(-1, channels, -1, -1), 0)
    assert crops.context.shape == (4, channels, 40, 40)
    assert crops.exemplars.shape == (4, 3, channels, 16, 16)


@pytest.mark.parametrize(
    ("mistake", "told", "nearest"),
    [
        ({"num_exemplars": 0}, "cropping.num_exemplars=0", "1"),
        ({"context_size": -3}, "cropping.context_size=-3", "1"),
        ({"exemplar_size": 0}, "cropping.exemplar_size=0", "1"),
        ({"flip": 1.5}, "cropping.flip=1.5", "1"),
    ],
)
def test_a_mistake_gets_one_line_with_setting_value_and_nearest(cropper, mistake, told, nearest):
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}: [^\n]*try {nearest}$"):
        cropper(**mistake)


def test_an_exemplar_larger_than_the_view_is_refused(cropper, views):
    with pytest.raises(ConfigError, match=r"^cropping\.exemplar_size=57: .*56x80.*try 56$"):
        cropper(exemplar_size=57).sample(2, (56, 80), torch.Generator())
    assert cropper(exemplar_size=56)(views, 0).exemplars.shape[-1] == 56
