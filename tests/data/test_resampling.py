"""Views of arrays: the crops and values of Pillow's RGB images, in any number of channels and bits."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.folder import folder
from cim_lightning.data.resampling import flip, image_size, resize
from cim_lightning.data.view_dataset import CenterSquare, RandomResizedCropFlip, ResizeCenterCrop
from cim_lightning.errors import ConfigError

VIEWS = [RandomResizedCropFlip(17, (0.2, 1.0), (0.5, 2.0), 0.5), CenterSquare(23), ResizeCenterCrop(19, 0.8)]
SIZES = [(40, 31), (31, 40), (64, 9), (18, 18)]


def smooth(width: int, height: int) -> Image.Image:
    """An image whose resized values stay between 0 and 255, so that nothing is clipped."""
    blocks = np.random.default_rng(width).integers(60, 200, (5, 6, 3), np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.BILINEAR)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: type(view).__name__)
@pytest.mark.parametrize("size", SIZES)
def test_views_of_arrays_equal_those_of_rgb_images(view, size):
    photo = smooth(*size)
    array = np.asarray(photo)
    for seed in range(4):
        expected = np.asarray(view(photo, np.random.default_rng(seed))).astype(int)
        assert np.array_equal(np.asarray(view(array, np.random.default_rng(seed))), expected)
        wide = view(array.astype(np.uint16) * 257, np.random.default_rng(seed))
        assert wide.dtype == np.uint16
        assert abs(wide / 257 - expected).max() <= 1.5  # Pillow rounds twice, columns and rows
        floats = view(np.float32(array / 255), np.random.default_rng(seed))
        np.testing.assert_allclose(floats, wide / 65535, rtol=0, atol=1e-5)


def test_each_channel_is_resized_alone():
    bands = np.random.default_rng(0).integers(0, 65536, (12, 10, 7), np.uint16)
    together = resize(bands, (5, 6), (0.5, 1.25, 9.75, 11))
    for band in range(7):
        alone = resize(bands[..., band : band + 1], (5, 6), (0.5, 1.25, 9.75, 11))
        assert np.array_equal(together[..., band], alone[..., 0])


def test_resized_values_stay_in_range():
    checkers = np.indices((16, 16)).sum(axis=0) % 2
    for array, high in ((np.float32(checkers), 1.0), (np.uint16(checkers * 65535), 65535)):
        resized = resize(array[..., None], (37, 37))
        assert (resized.min(), resized.max()) == (0, high)  # bicubic overshoots without clipping


def test_size_and_flip_of_arrays():
    array = np.arange(2 * 3 * 5).reshape(2, 3, 5)
    assert image_size(array) == (3, 2)
    assert image_size(Image.new("RGB", (3, 2))) == (3, 2)
    assert flip(array)[:, :, 4].tolist() == [[14, 9, 4], [29, 24, 19]]


def image_data(root, channels: int, bits: int) -> ImageData:
    shape = {"batch_size": 2, "view_size": 8, "view_scale": [1, 1], "view_ratio": [1, 1], "view_flip": 0}
    source = partial(folder, str(root), val_fraction=0.5, seed=0)
    return ImageData(source, lambda views, seed: views, **shape, channels=channels, bits=bits)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_have_the_type_of_the_format(workers, tmp_path):
    array = np.random.default_rng(0).integers(0, 65536, (8, 8, 6), np.uint16)
    for i in range(4):
        np.save(tmp_path / f"{i}.npy", array)
    data = image_data(tmp_path, 6, 16)
    data.num_workers = workers
    batch = next(iter(data.train_dataloader()))
    assert batch.views.dtype == torch.uint16
    assert np.array_equal(batch.views[1].permute(1, 2, 0).numpy(), array)
    assert data.dummy_batch(3).shape == (3, 6, 8, 8)
    assert data.dummy_batch(3).dtype == torch.uint16


@pytest.mark.user_input("folder", "a folder of RGB photographs, data.channels=4", "refused before training")
def test_images_with_other_channels_are_refused_when_they_are_opened(tmp_path):
    for i in range(4):
        smooth(9, 9).save(tmp_path / f"{i}.png")
    with pytest.raises(
        ConfigError, match=r"^channels=4: '.*\d\.png': has 3 channels, must .*; try channels=3$"
    ):
        _ = image_data(tmp_path, 4, 8).splits


def test_the_format_is_no_setting_of_a_source():
    with pytest.raises(ConfigError, match=r"^pixels=3: this data set has no such setting"):
        ImageData(folder, lambda views, seed: views, root="x", val_fraction=0.5, pixels=3)
