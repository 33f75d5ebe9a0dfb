"""Color augmentation against torchvision and a slow transcription: every operation, and their order."""

import colorsys
import itertools
import re

import pytest
import torch
from torchvision.transforms.v2 import functional as V

from cim_lightning.cropping import appearance as appearance_module
from cim_lightning.cropping.appearance import Appearance, ColorParams, _log_skipped, color_matrix
from cim_lightning.errors import ConfigError

# Orders of brightness, contrast, saturation and hue.
ORDERS = torch.tensor(list(itertools.permutations(range(4))))
ALL = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "jitter_prob": 1.0}
ALL |= {"grayscale": 1.0, "blur": 1.0, "blur_sigma": [0.1, 2.0], "solarize": 1.0}
NONE = ALL | {"jitter_prob": 0.0, "grayscale": 0.0, "blur": 0.0, "solarize": 0.0}
COLOR = NONE | {"jitter_prob": 1.0, "grayscale": 1.0}


def params(n: int = 1, **changes) -> ColorParams:
    """Return neutral parameters with changes: a value for all exemplars, or a value per exemplar."""
    neutral = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0, "sigma": 1e-3}
    values = {name: torch.as_tensor(changes.get(name, value)).expand(n) for name, value in neutral.items()}
    for name in ("grayscale", "solarize"):
        values[name] = torch.as_tensor(changes.get(name, False)).expand(n)
    return ColorParams(**values, order=torch.as_tensor(changes.get("order", [0, 1, 2, 3])).expand(n, 4))


def images(n: int, low: float, high: float, side: int = 16, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    shades = torch.rand(n, channels, 1, 1, generator=generator)  # images differ in their mean color
    return low + (high - low) * (shades + torch.rand(n, channels, side, side, generator=generator)) / 2


def test_jitter_and_grayscale_match_torchvision_in_the_sampled_order(monkeypatch):
    monkeypatch.setattr(appearance_module, "LUMA", (0.2989, 0.587, 0.114))  # as torchvision rounds it
    generator = torch.Generator().manual_seed(0)
    brightness, contrast, saturation = 0.8 + 0.4 * torch.rand(3, 24, generator=generator)
    grayscale = torch.arange(24) % 5 == 0
    colors = params(
        24, brightness=brightness, contrast=contrast, saturation=saturation, grayscale=grayscale, order=ORDERS
    )
    before = images(24, 0.35, 0.65)
    after = Appearance(**COLOR).apply(before, colors)
    for i, expected in enumerate(before):
        for step in ORDERS[i].tolist():
            if step < 3:  # step 3 is hue, which is neutral here
                operation = (V.adjust_brightness, V.adjust_contrast, V.adjust_saturation)[step]
                expected = operation(expected, (brightness, contrast, saturation)[step][i].item())
        if grayscale[i]:
            expected = V.rgb_to_grayscale(expected, num_output_channels=3)
        assert 0.01 < expected.min() < expected.max() < 0.99  # no value was clipped
        torch.testing.assert_close(after[i], expected, atol=1e-5, rtol=0)


def slow_jitter(image: torch.Tensor, order, brightness, contrast, saturation, hue) -> torch.Tensor:
    """Apply the operations to the pixels, one after another."""
    axis = torch.ones(3) / 3**0.5
    for step in order:
        luma = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        if step == 0:
            image = image * brightness
        elif step == 1:
            image = contrast * image + (1 - contrast) * luma.mean()
        elif step == 2:
            image = saturation * image + (1 - saturation) * luma
        else:
            angle = torch.tensor(2 * torch.pi * hue)  # of Rodrigues' rotation formula
            colors = image.movedim(0, -1)
            across = torch.linalg.cross(axis.expand_as(colors), colors)
            along = (colors @ axis)[..., None] * axis
            colors = along + (colors - along) * angle.cos() + across * angle.sin()
            image = colors.movedim(-1, 0)
    return image


def test_jitter_with_hue_matches_the_slow_transcription_in_every_order():
    factors = 0.8 + 0.4 * torch.rand(4, 24, generator=torch.Generator().manual_seed(0))
    names = ("brightness", "contrast", "saturation", "hue")
    sampled = dict(zip(names, (*factors[:3], (factors[3] - 1) / 2), strict=True))
    before = images(24, 0.4, 0.6)
    after = Appearance(**COLOR).apply(before, params(24, order=ORDERS, **sampled))
    for i in range(24):
        expected = slow_jitter(before[i], ORDERS[i].tolist(), *(sampled[name][i].item() for name in names))
        assert 0.01 < expected.min() < expected.max() < 0.99
        torch.testing.assert_close(after[i], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("turns", [0.05, 0.25, -0.1, 0.5])
def test_hue_changes_neither_the_mean_of_the_channels_nor_grays_and_is_invertible(turns):
    before, appearance = images(3, 0.35, 0.65), Appearance(**COLOR)
    after = appearance.apply(before, params(3, hue=turns))
    torch.testing.assert_close(after.mean(dim=1), before.mean(dim=1), atol=1e-5, rtol=0)
    assert (after - before).abs().max() > 0.01
    torch.testing.assert_close(appearance.apply(after, params(3, hue=-turns)), before, atol=1e-5, rtol=0)
    gray = before[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(appearance.apply(gray, params(3, hue=turns)), gray, atol=1e-5, rtol=0)


def test_hue_turns_in_the_direction_of_torchvision():
    before = images(3, 0.3, 0.7)
    third = Appearance(**COLOR).apply(before, params(3, hue=1 / 3))
    torch.testing.assert_close(third, V.adjust_hue(before, 1 / 3), atol=1e-5, rtol=0)  # red becomes green
    for turns in (-0.1, -0.03, 0.03, 0.1):
        after = Appearance(**COLOR).apply(before, params(3, hue=turns))
        changes = torch.stack(((after - before).flatten(), (V.adjust_hue(before, turns) - before).flatten()))
        assert torch.corrcoef(changes)[0, 1] > 0.75
        for step in range(12):
            color = colorsys.hsv_to_rgb(step / 12, 0.5, 0.7)
            pixel = torch.tensor(color, dtype=torch.float32).view(1, 3, 1, 1)
            turned = Appearance(**COLOR).apply(pixel, params(1, hue=turns)).flatten().tolist()
            shift = (colorsys.rgb_to_hsv(*turned)[0] - step / 12 + 0.5) % 1 - 0.5
            assert shift == pytest.approx(turns, rel=0.12)


def test_five_hue_rotations_by_a_fifth_are_the_identity():
    fifth = color_matrix(torch.rand(1, 3), params(1, hue=0.2))[0, :, :3]
    torch.testing.assert_close(torch.linalg.matrix_power(fifth, 5), torch.eye(3), atol=1e-5, rtol=0)


def test_values_are_clipped_once_after_the_whole_jitter():
    # brightness 1.5: 0.6 and 1.2, mean 0.9; contrast 0.5: 0.75 and 1.05; clipped in between: 0.7 and 0.9
    before = torch.tensor([0.4, 0.8]).repeat(2, 1).expand(1, 3, 2, 2)
    after = Appearance(**COLOR).apply(before, params(1, brightness=1.5, contrast=0.5))
    torch.testing.assert_close(after, torch.tensor([0.75, 1.0]).repeat(2, 1).expand(1, 3, 2, 2))


def test_solarize_inverts_values_of_at_least_a_half_in_sampled_images():
    before = torch.tensor([[0.2, 0.5], [0.7, 1.0]]).expand(2, 3, 2, 2)
    after = Appearance(**NONE | {"solarize": 0.5}).apply(
        before, params(2, solarize=torch.tensor([True, False]))
    )
    torch.testing.assert_close(after[0], torch.tensor([[0.2, 0.5], [0.3, 0.0]]).expand(3, 2, 2))
    assert torch.equal(after[1], before[1])


@pytest.mark.parametrize(
    ("side", "kernel"),
    [(16, 13), (64, 13), (5, 9)],  # 3 sigma on either side, or the whole image
)
def test_blur_matches_torchvision_with_one_sigma_per_exemplar(side, kernel):
    sigma = torch.tensor([0.1, 0.7, 1.3, 2.0])
    before = images(4, 0.0, 1.0, side=side)
    after = Appearance(**NONE | {"blur": 0.5}).apply(before, params(4, sigma=sigma))
    for i in range(4):
        expected = V.gaussian_blur(before[i], [kernel, kernel], [sigma[i].item()] * 2)
        torch.testing.assert_close(after[i], expected, atol=1e-5, rtol=0)


def test_the_order_is_jitter_grayscale_blur_solarize():
    before = images(1, 0.2, 0.8)
    together = params(1, brightness=1.1, saturation=0.7, grayscale=True, sigma=1.0, solarize=True)
    stepwise = before
    jitter = {"brightness": 1.1, "saturation": 0.7}
    for operation in (jitter, {"grayscale": True}, {"sigma": 1.0}, {"solarize": True}):
        stepwise = Appearance(**ALL).apply(stepwise, params(1, **operation))
    torch.testing.assert_close(Appearance(**ALL).apply(before, together), stepwise, atol=1e-5, rtol=0)


def test_neutral_parameters_change_nothing():
    before = images(3, 0.0, 1.0)
    torch.testing.assert_close(Appearance(**ALL).apply(before, params(3)), before, atol=1e-6, rtol=0)
    assert torch.equal(
        Appearance(**ALL | {"jitter_prob": 0.0, "grayscale": 0.0}).apply(before, params(3)), before
    )


@pytest.mark.user_input(
    "pixels",
    "color augmentation of gray and 4-channel images",
    "brightness and contrast change; a line says that saturation, hue and grayscale are skipped",
    source="https://github.com/kornia/kornia/issues/1759",
)
@pytest.mark.parametrize("channels", [1, 4])
def test_images_without_three_channels_have_brightness_and_contrast_only(channels, caplog):
    before = images(2, 0.2, 0.5, channels=channels)
    strong = params(2, brightness=0.5, contrast=1.5, saturation=0.0, hue=0.3, grayscale=True)
    _log_skipped.cache_clear()
    with caplog.at_level("INFO"):
        _, after = (Appearance(**COLOR).apply(before, strong) for _ in range(2))
    for i in range(2):
        for channel in range(channels):  # torchvision scales the contrast of a gray image about its mean
            gray = before[i, channel : channel + 1].expand(3, -1, -1)
            expected = V.adjust_contrast(V.adjust_brightness(gray, 0.5), 1.5)
            torch.testing.assert_close(after[i, channel], expected[0], atol=1e-4, rtol=0)
    (line,) = caplog.messages
    kind = "gray images" if channels == 1 else "images of 4 channels"
    assert line == f"appearance: skipped saturation, hue, grayscale, which {kind} do not have"


@pytest.mark.parametrize(
    ("mistake", "message", "suggestion"),
    [
        ({"brightness": 1.5}, "brightness=1.5", "1.0"),
        ({"contrast": -0.1}, "contrast=-0.1", "0.0"),
        ({"saturation": 2.0}, "saturation=2.0", "1.0"),
        ({"hue": 0.6}, "hue=0.6", "0.5"),
        ({"jitter_prob": 1.1}, "jitter_prob=1.1", "1.0"),
        ({"grayscale": -1.0}, "grayscale=-1.0", "0.0"),
        ({"blur": 7.0}, "blur=7.0", "1.0"),
        ({"solarize": 1.01}, "solarize=1.01", "1.0"),
        ({"blur_sigma": [2.0, 0.1]}, "blur_sigma=[2.0, 0.1]", "[0.1, 2.0]"),
        ({"blur_sigma": [0.0, 1.0]}, "blur_sigma=[0.0, 1.0]", "[0.1, 2.0]"),
        ({"blur_sigma": [1.0]}, "blur_sigma=[1.0]", "[0.1, 2.0]"),
    ],
)
def test_a_mistake_gets_one_line_with_a_suggestion(mistake, message, suggestion):
    (name,) = mistake
    pattern = f"^{re.escape(message)}: [^\n]*; try {name}={re.escape(suggestion)}$"
    with pytest.raises(ConfigError, match=pattern) as error:
        Appearance(**ALL | mistake)
    Appearance(**ALL | {name: error.value.suggest})
