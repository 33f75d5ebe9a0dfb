"""Statistics of pixels, compared with NumPy on all pixels at once."""

import numpy as np
import torch

from cim_lightning.data.pixel_stats import PixelStats, pixel_stats


def test_the_statistics_of_batches_are_those_of_all_pixels():
    images = torch.rand(7, 4, 5, 3, generator=torch.Generator().manual_seed(0))
    images[:, 1] = images[:, 1].clamp(0.25, 0.5)
    images[2, 3, :2, 0], images[5, 3, 0, 0] = 0, 1
    found = pixel_stats([images[:3], images[3:4], images[4:]])
    pixels = images.double().numpy().transpose(1, 0, 2, 3).reshape(4, -1)
    columns = found.columns()
    np.testing.assert_allclose(columns["mean"], pixels.mean(axis=1), rtol=1e-13)
    np.testing.assert_allclose(columns["std"], pixels.std(axis=1), rtol=1e-13)
    np.testing.assert_array_equal(columns["lowest"], pixels.min(axis=1))
    np.testing.assert_array_equal(columns["highest"], pixels.max(axis=1))
    np.testing.assert_allclose(columns["share_black"], (pixels == 0).mean(axis=1))
    np.testing.assert_allclose(columns["share_white"], (pixels == 1).mean(axis=1))
    assert columns["lowest"][1] == 0.25
    assert columns["share_black"][3] == 2 / 105
    assert columns["share_white"][3] == 1 / 105
    assert (found.images, found.pixels) == (7, 105)


def test_images_of_other_sizes_count_by_their_pixels():
    black, white = torch.zeros(1, 1, 3), torch.ones(1, 1, 1)
    for total in (
        PixelStats.of_image(black) + PixelStats.of_image(white),
        PixelStats.of_image(white) + PixelStats.of_image(black),
    ):
        assert total.columns()["mean"] == [0.25]
        np.testing.assert_allclose(total.std(), [np.sqrt(3) / 4])


def test_small_differences_of_bright_pixels_are_measured():
    """The difference of the sum of squares and the squared sum would be 0 in float32."""
    image = torch.full((1, 100, 100), 0.999)
    image[:, ::2] += 2**-20
    batches = [image[None]] * 50
    np.testing.assert_allclose(pixel_stats(batches).std(), image.double().numpy().std(), rtol=1e-9)
