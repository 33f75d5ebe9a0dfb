"""The common corruptions: closed forms where they exist, and distances that grow with the severity."""

import colorsys
import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from cim_lightning.data.synthetic.dataset import SyntheticScenes
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.corruptions.catalog import CORRUPTIONS, corrupt
from cim_lightning.evaluation.corruptions.image_ops import REFERENCE_SIDE, line_blur


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scenes(count: int, size: int) -> torch.Tensor:
    source = SyntheticScenes(count, size, 7)
    arrays = np.stack([np.asarray(source[i][0]) for i in range(count)])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 255


SMALL, LARGE = scenes(12, 32), scenes(3, 224)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_0_is_the_identity(name):
    assert torch.equal(corrupt(SMALL, name, 0, seeded()), SMALL)


@pytest.mark.parametrize("images", [SMALL, LARGE], ids=["32", "224"])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_distance_from_the_clean_image_grows_with_the_severity(name, images):
    before = images.clone()
    distances = []
    for severity in range(6):
        corrupted = corrupt(images, name, severity, seeded())
        assert corrupted.shape == images.shape
        assert corrupted.isfinite().all()
        assert corrupted.min() >= 0
        assert corrupted.max() <= 1
        distances.append((corrupted - images).abs().mean().item())
    assert distances[0] == 0
    assert all(larger > smaller + 1e-5 for smaller, larger in pairwise(distances)), distances
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_rectangular_images_and_a_repeated_seed(name):
    images = LARGE[:, :, :64, :41]
    first, second = (corrupt(images, name, 3, seeded()) for _ in range(2))
    assert first.shape == images.shape
    assert torch.equal(first, second)


def is_deterministic(name: str) -> bool:
    first, second = (corrupt(SMALL[:2], name, 3, seeded(seed)) for seed in (0, 1))
    return torch.equal(first, second)


def test_six_corruptions_are_deterministic():
    deterministic = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
    assert {name for name in CORRUPTIONS if is_deterministic(name)} == deterministic


def gray(value: float) -> torch.Tensor:
    return torch.full((2, 3, 224, 224), value)


def test_noises_have_the_expected_moments():
    gaussian = corrupt(gray(0.5), "gaussian_noise", 2, seeded())
    assert gaussian.std().item() == pytest.approx(0.12, rel=0.01)
    shot = corrupt(gray(0.4), "shot_noise", 2, seeded())  # 25 photons: variance 0.4 / 25
    assert shot.mean().item() == pytest.approx(0.4, rel=0.01)
    assert shot.var().item() == pytest.approx(0.4 / 25, rel=0.02)
    impulse = corrupt(gray(0.4), "impulse_noise", 5, seeded())
    assert (impulse == 0).float().mean().item() == pytest.approx(0.135, rel=0.02)
    assert (impulse == 1).float().mean().item() == pytest.approx(0.135, rel=0.02)
    assert (impulse == 0.4).float().mean().item() == pytest.approx(0.73, rel=0.02)


@pytest.mark.parametrize(
    "name", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "elastic_transform"]
)
def test_geometric_corruptions_leave_a_constant_image_unchanged(name):
    torch.testing.assert_close(corrupt(gray(0.4), name, 4, seeded()), gray(0.4))


def spot(size: int) -> torch.Tensor:
    image = torch.zeros(1, 3, size, size)
    image[..., size // 2, size // 2] = 1
    return image


def moments(image: torch.Tensor) -> tuple[float, float, float, float]:
    """Mass, mean x, mean y (downwards) and mean squared distance from the center, of one channel."""
    size = image.shape[-1]
    position = torch.arange(size) - size // 2
    y, x = torch.meshgrid(position, position, indexing="ij")
    mass = image[0, 0].sum()
    share = image[0, 0] / mass
    return (
        mass.item(),
        (share * x).sum().item(),
        (share * y).sum().item(),
        (share * (x**2 + y**2)).sum().item(),
    )


@pytest.mark.parametrize("size", [33, 225, 449])
def test_defocus_blur_makes_a_disk_that_scales_with_the_image(size):
    # A disk of radius r has a mean squared distance of r^2 / 2. Distribution over pixels adds at most 1/2
    # (1/4 in each direction), the Gaussian adds twice its variance.
    radius, sigma = 10 * size / REFERENCE_SIDE, 0.5 * size / REFERENCE_SIDE
    mass, x, y, square = moments(corrupt(spot(size), "defocus_blur", 5, seeded()))
    assert mass == pytest.approx(1, abs=1e-3)
    assert (x, y) == pytest.approx((0, 0), abs=1e-3)
    expected = radius**2 / 2 + 2 * sigma**2
    assert 0.95 * expected <= square <= 1.05 * expected + 0.5


@pytest.mark.parametrize("degrees", [0, 30, 90, -135])
def test_line_blur_is_one_sided(degrees):
    angle = torch.tensor([np.deg2rad(degrees)], dtype=torch.float32)
    blurred = line_blur(spot(65), angle, 16, 1000)  # so wide a Gaussian is uniform: its mean is at 8
    mass, x, y, _ = moments(blurred)
    assert mass == pytest.approx(1, abs=1e-4)
    assert (x, -y) == pytest.approx((8 * np.cos(angle.item()), 8 * np.sin(angle.item())), abs=0.05)


def test_motion_blur_stays_within_45_degrees_of_the_horizontal():
    blurred = corrupt(spot(225).expand(40, -1, -1, -1), "motion_blur", 5, seeded())
    angles = []
    for image in blurred.split(1):
        _, x, y, _ = moments(image)
        angles.append(np.rad2deg(np.arctan2(-y, x)))
    assert -45.5 < min(angles) < -30
    assert 30 < max(angles) < 45.5


def test_zoom_blur_of_a_ramp_is_its_mean_enlargement():
    # Enlarging a centered ramp by z divides it by z. Factors of severity 1: 1, 1.01 ... 1.1.
    ramp = torch.linspace(0, 1, 225).expand(1, 3, 225, 225)
    factors = [1, *(1 + i / 100 for i in range(11))]
    expected = 0.5 + (ramp - 0.5) * np.mean([1 / z for z in factors])
    torch.testing.assert_close(corrupt(ramp, "zoom_blur", 1, seeded()), expected, atol=1e-4, rtol=0)


def test_brightness_raises_the_value_of_hsv():
    images = torch.rand(1, 3, 5, 7, generator=seeded(3))
    images[..., 0, 0] = 0  # black has no hue
    brighter = corrupt(images, "brightness", 3, seeded())
    for y in range(5):
        for x in range(7):
            hue, saturation, value = colorsys.rgb_to_hsv(*images[0, :, y, x].tolist())
            expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.3, 1))
            assert brighter[0, :, y, x].tolist() == pytest.approx(expected, abs=1e-6)


def test_contrast_shrinks_about_the_mean_of_each_channel():
    image = torch.tensor([0.0, 1.0]).expand(1, 3, 2, 2) * torch.tensor([1, 0.5, 0])[:, None, None]
    red, green, blue = corrupt(image, "contrast", 3, seeded())[0, :, 0]
    assert red.tolist() == pytest.approx([0.4, 0.6])
    assert green.tolist() == pytest.approx([0.2, 0.3])
    assert blue.tolist() == [0, 0]


def test_pixelate_by_half_repeats_means_of_2_by_2_pixels():
    means = SMALL.unflatten(3, (16, 2)).unflatten(2, (16, 2)).mean(dim=(3, 5))
    expected = means.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(corrupt(SMALL, "pixelate", 2, seeded()), expected)


def test_jpeg_compression_equals_a_file_of_that_quality():
    file = io.BytesIO()
    SyntheticScenes(16, 32, 7)[5][0].save(file, "JPEG", quality=15)
    expected = torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1) / 255
    assert torch.equal(corrupt(SMALL, "jpeg_compression", 3, seeded())[5], expected)


def test_fog_mixes_with_clouds_and_preserves_the_brightest_value():
    # Strength 2 and brightest value 1: x becomes (x + 2 clouds) / 3, in x / 3 ... (x + 2) / 3.
    foggy = corrupt(LARGE / LARGE.amax(dim=(1, 2, 3), keepdim=True), "fog", 2, seeded())
    clean = LARGE / LARGE.amax(dim=(1, 2, 3), keepdim=True)
    clouds = (3 * foggy - clean) / 2
    assert clouds.amin().item() == pytest.approx(0, abs=1e-5)
    assert clouds.amax().item() == pytest.approx(1, abs=1e-5)
    assert (clouds[:, 0] - clouds[:, 1]).abs().max() < 1e-5  # gray


@pytest.mark.parametrize("name", ["snow", "frost", "fog"])
def test_weather_scales_with_the_image(name):
    images = gray(0.4)
    large = corrupt(images, name, 3, seeded())
    small = corrupt(images[..., :56, :56], name, 3, seeded())
    shrunk = torch.nn.functional.avg_pool2d(large, 4)
    assert (small - shrunk).abs().mean() < 0.1 * (shrunk - 0.4).abs().mean()


def test_an_unknown_corruption_or_severity_is_an_error():
    with pytest.raises(ConfigError, match=r"corruption=frst: .*did you mean frost\?"):
        corrupt(SMALL, "frst", 1, seeded())
    with pytest.raises(ConfigError, match=r"severity=6: must be in 0\.\.5; try severity=5"):
        corrupt(SMALL, "fog", 6, seeded())
