"""Views: functions of (seed, epoch, index), equal to Pillow's resize; bad images are replaced."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.fabric.utilities.apply_func import move_data_to_device
from PIL import Image
from torch.utils.data import Subset
from torch.utils.data._utils.pin_memory import pin_memory
from torchvision import transforms

from cim_lightning.data.batch import Samples, collate
from cim_lightning.data.view_dataset import (
    MAX_BAD_IMAGES,
    CenterSquare,
    RandomResizedCropFlip,
    ResizeCenterCrop,
    ViewDataset,
)
from cim_lightning.errors import BadImageError, ConfigError

SCALE, RATIO = (0.2, 0.9), (3 / 4, 4 / 3)


class Noise:
    """Images of noise, labeled with their index; images in `bad` cannot be decoded."""

    classes = None

    def __init__(self, count: int, *bad: int):
        self.count, self.bad = count, bad

    def __len__(self) -> int:
        return self.count

    def path(self, index: int) -> str:
        return f"{index}.png"

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if index in self.bad:
            raise BadImageError("broken", repr(self.path(index)))
        return Image.fromarray(np.random.default_rng(index).integers(0, 256, (29, 37, 3), np.uint8)), index


def random_views(*bad: int, seed: int = 5) -> ViewDataset:
    return ViewDataset(Noise(7, *bad), RandomResizedCropFlip(16, SCALE, RATIO, 0.5), seed)


def coordinates(width: int, height: int) -> Image.Image:
    """An image whose red is x and whose green is y."""
    y, x = np.indices((height, width))
    return Image.fromarray(np.stack((x, y, 0 * x), axis=-1).astype(np.uint8))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def same(a, b) -> bool:
    return torch.equal(a[0], b[0]) and a[1:] == b[1:]


def test_a_view_is_a_function_of_seed_epoch_and_index():
    first, second = random_views(), random_views()
    for key in [(0, 4), (9, 0)]:
        second[3, 3]
        assert same(first[key], second[key])
    assert first[0, 4][0].shape == (3, 16, 16)
    assert first[0, 4][0].dtype == torch.uint8


@pytest.mark.fault(
    "data", "an image was added or removed", "the other images keep their views, crops and relative order"
)
def test_a_view_depends_on_the_key_of_the_image_and_not_on_its_index():
    view, keys = RandomResizedCropFlip(16, SCALE, RATIO, 0.5), np.array([7, 3, 9, 2, 5, 1, 8], np.uint64)
    source: Any = Noise(7)
    source.keys = keys
    whole, part = ViewDataset(source, view, 5), ViewDataset(Subset(source, [6, 2, 4]), view, 5)
    for index, in_whole in enumerate([6, 2, 4]):
        found, expected = part[1, index], whole[1, in_whole]
        assert torch.equal(found.view, expected.view)
        assert (found.label, found.seed) == (expected.label, expected.seed)
    assert not torch.equal(random_views()[1, 6].view, whole[1, 6].view)  # without keys, the index is the key


def test_views_and_their_seeds_differ_across_epochs_indices_and_seeds():
    samples = [random_views()[0, 4], random_views()[1, 4], random_views()[0, 5], random_views(seed=6)[0, 4]]
    assert len({sample.view.numpy().tobytes() for sample in samples}) == 4
    assert len({sample.seed for sample in samples}) == 4
    views = random_views()
    assert len({views[epoch, index].seed for epoch in range(50) for index in range(7)}) == 350


def test_evaluation_has_no_seed_of_training():
    training, evaluation = random_views(), random_views()
    evaluation.evaluation = True
    keys = [(epoch, index) for epoch in range(50) for index in range(7)]
    assert not {training[key].seed for key in keys} & {evaluation[key].seed for key in keys}
    assert not torch.equal(training[0, 4].view, evaluation[0, 4].view)
    assert same(evaluation[0, 4], evaluation[0, 4])


@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    scale=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    ratio=st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)).map(sorted),
    seed=st.integers(0, 1000),
)
def test_crops_are_inside_and_within_limits_or_the_largest_of_the_closest_ratio(
    width, height, scale, ratio, seed
):
    crop = RandomResizedCropFlip(8, scale, ratio, 0).sample(width, height, np.random.default_rng(seed))
    left, top, right, bottom = crop
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    wide, high = right - left, bottom - top
    assert ratio[0] * 0.9999 <= wide / high <= ratio[1] * 1.0001
    if not scale[0] * 0.9999 <= wide * high / (width * height) <= scale[1] * 1.0001:
        assert wide == pytest.approx(width) or high == pytest.approx(height)
        assert (left + right, top + bottom) == pytest.approx((width, height))


def test_areas_and_ratios_cover_their_ranges():
    rng = np.random.default_rng(0)
    boxes = np.array([RandomResizedCropFlip(8, SCALE, RATIO, 0).sample(300, 300, rng) for _ in range(2000)])
    wide, high = (boxes[:, 2:] - boxes[:, :2]).T
    area, ratio = wide * high / 300**2, np.log(wide / high)
    assert (area.min(), area.max()) == pytest.approx((0.2, 0.9), abs=0.01)
    assert (ratio.min(), ratio.max()) == pytest.approx((-np.log(4 / 3), np.log(4 / 3)), abs=0.01)
    assert ratio.mean() == pytest.approx(0, abs=0.02)  # uniform in the logarithm: no side is favored
    assert boxes[:, 0].min() < 5
    assert boxes[:, 2].max() > 295


def test_a_crop_that_never_fits_is_centered():
    crop = RandomResizedCropFlip(8, (1, 1), (1, 1), 0).sample(90, 30, np.random.default_rng(0))
    assert crop == (30, 0, 60, 30)


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("as_array", [False, True])
def test_a_view_is_pillows_resize_of_the_sampled_box_flipped_or_not(flip, as_array):
    image, view = coordinates(200, 150), RandomResizedCropFlip(224, SCALE, RATIO, flip)
    box = view.sample(200, 150, np.random.default_rng(3))
    expected = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC, box=box))
    given = np.asarray(image) if as_array else image
    seen = np.asarray(view(given, np.random.default_rng(3)))
    np.testing.assert_array_equal(seen, expected[:, ::-1] if flip else expected)
    left, top, right, bottom = box
    across = left + (np.arange(224) + 0.5) * (right - left) / 224 - 0.5  # source position of each column
    down = top + (np.arange(224) + 0.5) * (bottom - top) / 224 - 0.5
    inner = slice(9, -9)
    assert np.abs(expected[80, inner, 0] - across[inner]).max() < 1
    assert np.abs(expected[inner, 80, 1] - down[inner]).max() < 1


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("as_array", [False, True])
@pytest.mark.parametrize("size", [24, 300])  # smaller than the crop of 135 x 144 pixels, and larger
def test_a_view_of_a_large_crop_is_the_resized_box_of_whole_pixels(flip, as_array, size):
    image, view = noise(300, 250), RandomResizedCropFlip(size, SCALE, RATIO, flip)
    box = tuple(map(round, view.sample(300, 250, np.random.default_rng(3))))
    expected = np.asarray(image.crop(box).resize((size, size), Image.Resampling.BICUBIC)).astype(int)
    given = np.asarray(image) if as_array else image
    seen = np.asarray(view(given, np.random.default_rng(3)))
    assert abs(seen - (expected[:, ::-1] if flip else expected)).max() <= 1


def test_a_crop_that_is_larger_in_one_direction_has_fractions():
    image, view = noise(40, 400), RandomResizedCropFlip(32, (0.3, 0.3), (0.05, 0.1), 0)
    left, top, right, bottom = box = view.sample(40, 400, np.random.default_rng(0))
    assert right - left < 32 < bottom - top
    expected = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC, box=box))
    np.testing.assert_array_equal(np.asarray(view(image, np.random.default_rng(0))), expected)


def test_half_of_the_views_are_flipped():
    image, view, rng = (
        coordinates(20, 20),
        RandomResizedCropFlip(8, (1, 1), (1, 1), 0.5),
        np.random.default_rng(0),
    )
    flips = [np.asarray(view(image, rng))[0, 0, 0] > 10 for _ in range(400)]
    assert 150 < sum(flips) < 250


@pytest.mark.parametrize(("width", "height", "x", "y"), [(90, 30, 30, 0), (30, 90, 0, 30)])
def test_the_square_is_the_largest_centered_one(width, height, x, y):
    seen = np.asarray(CenterSquare(30)(coordinates(width, height), np.random.default_rng(0)))
    np.testing.assert_array_equal(seen[0, :, 0], np.arange(30) + x)
    np.testing.assert_array_equal(seen[:, 0, 1], np.arange(30) + y)


@pytest.mark.parametrize("size", [(200, 120), (91, 200), (33, 33)])
def test_the_square_is_pillows_resize_of_that_box(size):
    image, side = noise(*size), min(size)
    left, top = (size[0] - side) / 2, (size[1] - side) / 2
    box = (left, top, left + side, top + side)
    expected = image.resize((32, 32), Image.Resampling.BICUBIC, box=box)
    seen = CenterSquare(32)(image, np.random.default_rng(0))
    np.testing.assert_array_equal(np.asarray(seen), np.asarray(expected))


def test_the_standard_crop_by_hand():
    # The image is not resized, as its short side is 40 = 35 / 0.875. The crop begins at (60 - 35) / 2 = 12.5,
    # which torchvision rounds to the even number 12, and at (40 - 35) / 2 = 2.5, rounded to 2.
    seen = np.asarray(ResizeCenterCrop(35, 0.875)(coordinates(60, 40), np.random.default_rng(0)))
    np.testing.assert_array_equal(seen[0, :, 0], np.arange(35) + 12)
    np.testing.assert_array_equal(seen[:, 0, 1], np.arange(35) + 2)


@pytest.mark.parametrize(("view_size", "short_side"), [(224, 256), (96, 110), (32, 37), (384, 439)])
@pytest.mark.parametrize("size", [(500, 375), (120, 191), (300, 300)])
def test_the_standard_crop_equals_torchvisions_transforms(view_size, short_side, size):
    image = noise(*size)
    bicubic = transforms.InterpolationMode.BICUBIC
    expected = transforms.CenterCrop(view_size)(transforms.Resize(short_side, bicubic)(image))
    seen = ResizeCenterCrop(view_size, 0.875)(image, np.random.default_rng(0))
    assert seen.size == (view_size, view_size)
    np.testing.assert_array_equal(np.asarray(seen), np.asarray(expected))


def test_the_standard_crop_is_an_eighth_smaller_than_the_square():
    image, rng = coordinates(200, 200), np.random.default_rng(0)
    views = (ResizeCenterCrop(28, 0.875), CenterSquare(28))
    standard, square = (np.asarray(view(image, rng)) for view in views)
    # The first column is half an output pixel inside: 12.5 + 3.125 - 0.5, and 3.57 - 0.5.
    assert abs(int(standard[14, 0, 0]) - 15.1) < 1
    assert abs(int(square[14, 0, 0]) - 3.07) < 1


def test_a_bad_image_is_replaced_by_a_random_good_one_with_its_label():
    views, again = random_views(3, 4, 6), random_views(3, 4, 6)
    replaced = [views[epoch, 3] for epoch in range(60)]
    assert {sample.label for sample in replaced} == {0, 1, 2, 5}
    assert all(same(sample, again[sample.epoch, 3]) for sample in replaced)
    for sample in replaced:
        assert sample.index == 3
        assert sample.skipped[0] == (3, "broken")
        assert {index for index, _ in sample.skipped} <= {3, 4, 6}


def test_good_images_have_the_same_views_beside_bad_ones():
    assert all(same(random_views()[1, i], random_views(3, 4, 6)[1, i]) for i in (0, 1, 2, 5))


def test_in_evaluation_a_replaced_image_has_no_label():
    views = random_views(3)
    views.evaluation = True
    assert [views[0, i].label for i in range(5)] == [0, 1, 2, -1, 4]


def test_a_folder_of_bad_images_does_not_end_the_search():
    """The images of a class are neighbors."""
    view = RandomResizedCropFlip(8, SCALE, RATIO, 0)
    views = ViewDataset(Noise(4 * MAX_BAD_IMAGES, *range(2 * MAX_BAD_IMAGES)), view, 0)
    assert all(views[0, i].view is not None for i in range(0, 2 * MAX_BAD_IMAGES, 20))


@pytest.mark.parametrize(("count", "good"), [(1, ()), (2, ()), (2, (0,)), (7, (5,)), (6, (1,)), (101, ())])
def test_a_sample_has_no_view_only_if_no_image_is_good(count, good):
    view = RandomResizedCropFlip(8, SCALE, RATIO, 0)
    sample = ViewDataset(Noise(count, *({*range(count)} - {*good})), view, 0)[0, count - 1]
    assert (sample.view is None, sample.label) == (not good, *(good or (-1,)))
    assert good or len(dict(sample.skipped)) == min(count, MAX_BAD_IMAGES)
    assert good or isinstance(collate([sample], 1), Samples)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, r"^size=0: .*try size=1$"),
        ({"scale": (0.0, 1.0)}, r"^scale=\[0\.0, 1\.0\]: .*try scale=\[0\.5, 1\.0\]$"),
        ({"scale": (0.9, 0.2)}, r"^scale=\[0\.9, 0\.2\]: .*try scale=\[0\.5, 1\.0\]$"),
        ({"scale": (0.5, 1.5)}, r"^scale=\[0\.5, 1\.5\]: .*try scale=\[0\.5, 1\.0\]$"),
        ({"scale": (0.5,)}, r"^scale=\[0\.5\]: .*try "),
        ({"ratio": (0, 1)}, r"^ratio=\[0, 1\]: .*try "),
        ({"ratio": (2, 1)}, r"^ratio=\[2, 1\]: .*try "),
        ({"flip": 1.5}, r"^flip=1\.5: .*try flip=1\.0$"),
        ({"flip": -1}, r"^flip=-1: .*try flip=0\.0$"),
    ],
)
def test_a_wrong_parameter_gets_one_line_with_its_value_and_a_suggestion(changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        RandomResizedCropFlip(**{"size": 8, "scale": SCALE, "ratio": RATIO, "flip": 0.5} | changes)
    assert "\n" not in str(caught.value)


def test_a_batch_names_the_images_that_it_was_made_from():
    views = random_views(3, 4)
    samples = [views[2, 1], views[2, 3], views[5, 0]]
    batch = collate(samples, len(samples))
    assert torch.equal(batch.views[1], samples[1].view)
    assert batch.labels.tolist() == [1, samples[1].label, 0]
    assert batch.seeds.tolist() == batch.samples.seeds.tolist() == [sample.seed for sample in samples]
    assert batch.samples.epochs.tolist() == [2, 2, 5]
    assert batch.samples.indices.tolist() == [1, 3, 0]
    assert batch.samples.skipped == samples[1].skipped


def test_a_batch_is_made_of_its_samples():
    """torch's loader gets whole batches, whose views are copied once."""
    keys = [(2, 1), (2, 3), (5, 0)]
    batch = random_views(3, 4).__getitems__(keys)
    samples = [random_views(3, 4)[key] for key in keys]
    assert batch.views.is_contiguous()
    assert torch.equal(batch.views, torch.stack([sample.view for sample in samples]))
    assert batch.labels.tolist() == [sample.label for sample in samples]
    assert batch.seeds.tolist() == [sample.seed for sample in samples]
    assert batch.samples.skipped == samples[1].skipped
    nothing = ViewDataset(Noise(2, 0, 1), random_views().view, 0).__getitems__([(0, 1), (0, 0)])
    assert isinstance(nothing, Samples)
    assert nothing.indices.tolist() == [1, 0]


def test_views_of_different_kinds_are_no_batch():
    first, other = random_views(3, 4)[0, 1], torch.zeros(3, 16, 16)
    for view in (other[:1].byte(), other):  # would be repeated, and would be converted
        with pytest.raises(
            ValueError, match=r"^the view of image 1 is \[\d, 16, 16\] of torch.*, others are "
        ):
            collate([first, first._replace(view=view)], 2)


def test_the_images_of_a_batch_stay_as_they_are_on_the_way_to_the_device():
    batch = collate([random_views()[0, 1]], 1)
    moved = move_data_to_device(batch, "cpu")
    assert moved.samples is batch.samples
    assert pin_memory(batch.samples) is batch.samples


@pytest.mark.parametrize(
    ("size", "crop_pct", "message"),
    [(0, 0.875, "size=0: .*try size=1$"), (8, 0.0, "crop_pct=0.*; try"), (8, 1.2, "crop_pct=1.2: .*try")],
)
def test_a_wrong_parameter_of_the_standard_crop_is_an_error(size, crop_pct, message):
    with pytest.raises(ConfigError, match=message):
        ResizeCenterCrop(size, crop_pct)
