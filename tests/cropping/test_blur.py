"""Gaussian blur against kornia, which checks its standard deviations on the host."""

import kornia
import pytest
import torch

from cim_lightning.cropping.blur import gaussian_blur


@pytest.mark.parametrize(("channels", "height", "width", "radius"), [(3, 31, 16, 6), (1, 7, 9, 6)])
def test_blur_matches_kornia_with_one_sigma_per_image(channels, height, width, radius):
    images = torch.rand(4, channels, height, width, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([1e-3, 0.4, 1.1, 2.0])
    expected = kornia.filters.gaussian_blur2d(images, 2 * radius + 1, sigma[:, None].expand(-1, 2), "reflect")
    blurred = gaussian_blur(images, sigma, radius)
    torch.testing.assert_close(blurred, expected, atol=1e-6, rtol=0)
    assert torch.equal(blurred[0], images[0])  # the neutral value
    assert torch.equal(gaussian_blur(images[2:3], sigma[2:3], radius)[0], blurred[2])  # in any batch
