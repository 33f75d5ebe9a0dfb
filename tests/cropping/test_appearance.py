"""Appearance: every operation against a transcription of its definition, then what happens in which order."""

import itertools
import re

import pytest
import torch
from torchvision.transforms.v2 import functional as V

from cim_lightning.cropping import appearance as appearance_module
from cim_lightning.cropping.appearance import LUMA, Appearance, ColorParams, color_matrix
from cim_lightning.errors import ConfigError

ORDERS = torch.tensor(list(itertools.permutations(range(4))))  # of brightness, contrast, saturation, hue
EVERYTHING = {
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.2,
    "hue": 0.1,
    "jitter_prob": 1.0,
    "grayscale": 1.0,
}
EVERYTHING |= {"blur": 1.0, "blur_sigma": [0.1, 2.0], "solarize": 1.0}
NOTHING = EVERYTHING | {"jitter_prob": 0.0, "grayscale": 0.0, "blur": 0.0, "solarize": 0.0}
COLOR = NOTHING | {"jitter_prob": 1.0, "grayscale": 1.0}


def look(n: int = 1, **changes) -> ColorParams:
    """Neutral colors but for the changes, each a value for all or one an exemplar."""
    neutral = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0, "sigma": 1e-3}
    values = {name: torch.as_tensor(changes.get(name, value)).expand(n) for name, value in neutral.items()}
    for name in ("grayscale", "solarize"):
        values[name] = torch.as_tensor(changes.get(name, False)).expand(n)
    return ColorParams(**values, order=torch.as_tensor(changes.get("order", [0, 1, 2, 3])).expand(n, 4))


def images(n: int, low: float, high: float, side: int = 16, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    shades = torch.rand(n, channels, 1, 1, generator=generator)  # no two images of one mean color
    return low + (high - low) * (shades + torch.rand(n, channels, side, side, generator=generator)) / 2


def test_jitter_and_grayscale_do_what_torchvision_does_in_the_drawn_order(monkeypatch):
    monkeypatch.setattr(appearance_module, "LUMA", (0.2989, 0.587, 0.114))  # torchvision's rounding of it
    generator = torch.Generator().manual_seed(0)
    brightness, contrast, saturation = 0.8 + 0.4 * torch.rand(3, 24, generator=generator)
    grayscale = torch.arange(24) % 5 == 0
    colors = look(
        24, brightness=brightness, contrast=contrast, saturation=saturation, grayscale=grayscale, order=ORDERS
    )
    before = images(24, 0.35, 0.65)
    after = Appearance(**COLOR).apply(before, colors)
    for i, expected in enumerate(before):
        for step in ORDERS[i].tolist():
            operation = (V.adjust_brightness, V.adjust_contrast, V.adjust_saturation, lambda image, _: image)[
                step
            ]
            expected = operation(
                expected, (brightness[i].item(), contrast[i].item(), saturation[i].item(), 0)[step]
            )
        if grayscale[i]:
            expected = V.rgb_to_grayscale(expected, num_output_channels=3)
        assert 0.01 < expected.min() < expected.max() < 0.99  # nothing was clipped on either side
        torch.testing.assert_close(after[i], expected, atol=1e-5, rtol=0)


def slow_jitter(image: torch.Tensor, order, brightness, contrast, saturation, hue) -> torch.Tensor:
    """One operation after the other, on the pixels."""
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    for step in order:
        luma = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        if step == 0:
            image = image * brightness
        elif step == 1:
            image = contrast * image + (1 - contrast) * luma.mean()
        elif step == 2:
            image = saturation * image + (1 - saturation) * luma
        else:
            y, i, q = torch.einsum("ij,jhw->ihw", to_yiq, image)
            chroma = torch.complex(i, q) * torch.exp(torch.tensor(2j * torch.pi * hue))
            yiq = torch.stack((y, chroma.real, chroma.imag))
            image = torch.einsum("ij,jhw->ihw", torch.linalg.inv(to_yiq), yiq)
    return image


def test_jitter_with_hue_is_one_operation_after_the_other_in_every_order():
    factors = 0.8 + 0.4 * torch.rand(4, 24, generator=torch.Generator().manual_seed(0))
    names = ("brightness", "contrast", "saturation", "hue")
    drawn = dict(zip(names, (*factors[:3], (factors[3] - 1) / 2), strict=True))
    before = images(24, 0.4, 0.6)
    after = Appearance(**COLOR).apply(before, look(24, order=ORDERS, **drawn))
    for i in range(24):
        expected = slow_jitter(before[i], ORDERS[i].tolist(), *(drawn[name][i].item() for name in names))
        assert 0.01 < expected.min() < expected.max() < 0.99
        torch.testing.assert_close(after[i], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("turns", [0.05, 0.25, -0.1, 0.5])
def test_hue_keeps_luma_and_grays_and_turns_back(turns):
    before, appearance = images(3, 0.35, 0.65), Appearance(**COLOR)
    after = appearance.apply(before, look(3, hue=turns))
    luma = torch.tensor(LUMA)
    torch.testing.assert_close(
        torch.einsum("c,nchw->nhw", luma, after), torch.einsum("c,nchw->nhw", luma, before), atol=1e-5, rtol=0
    )
    assert (after - before).abs().max() > 0.01
    torch.testing.assert_close(appearance.apply(after, look(3, hue=-turns)), before, atol=1e-5, rtol=0)
    gray = before[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(appearance.apply(gray, look(3, hue=turns)), gray, atol=1e-5, rtol=0)


def test_five_turns_of_a_fifth_come_back():
    fifth = color_matrix(torch.rand(1, 3), look(1, hue=0.2))[0, :, :3]
    torch.testing.assert_close(torch.linalg.matrix_power(fifth, 5), torch.eye(3), atol=1e-5, rtol=0)


def test_values_are_clipped_once_after_the_whole_jitter():
    # x 1.5: 0.6 and 1.2, mean 0.9; half the contrast: 0.75 and 1.05; clipped between, it would be 0.7 and 0.9
    before = torch.tensor([0.4, 0.8]).repeat(2, 1).expand(1, 3, 2, 2)
    after = Appearance(**COLOR).apply(before, look(1, brightness=1.5, contrast=0.5))
    torch.testing.assert_close(after, torch.tensor([0.75, 1.0]).repeat(2, 1).expand(1, 3, 2, 2))


def test_solarise_inverts_from_a_half_up_where_it_was_drawn():
    before = torch.tensor([[0.2, 0.5], [0.7, 1.0]]).expand(2, 3, 2, 2)
    after = Appearance(**NOTHING | {"solarize": 0.5}).apply(
        before, look(2, solarize=torch.tensor([True, False]))
    )
    torch.testing.assert_close(after[0], torch.tensor([[0.2, 0.5], [0.3, 0.0]]).expand(3, 2, 2))
    assert torch.equal(after[1], before[1])


@pytest.mark.parametrize(("side", "kernel"), [(16, 13), (64, 13), (5, 9)])  # 3 sigma a side, or all there is
def test_blur_is_torchvisions_of_each_exemplars_sigma(side, kernel):
    sigma = torch.tensor([0.1, 0.7, 1.3, 2.0])
    before = images(4, 0.0, 1.0, side=side)
    after = Appearance(**NOTHING | {"blur": 0.5}).apply(before, look(4, sigma=sigma))
    for i in range(4):
        expected = V.gaussian_blur(before[i], [kernel, kernel], [sigma[i].item()] * 2)
        torch.testing.assert_close(after[i], expected, atol=1e-5, rtol=0)


def test_operations_come_as_jitter_then_grayscale_then_blur_then_solarize():
    before = images(1, 0.2, 0.8)
    all_of_it = look(1, brightness=1.1, saturation=0.7, grayscale=True, sigma=1.0, solarize=True)
    seen = before
    for part in (
        {"brightness": 1.1, "saturation": 0.7},
        {"grayscale": True},
        {"sigma": 1.0},
        {"solarize": True},
    ):
        seen = Appearance(**EVERYTHING).apply(seen, look(1, **part))
    torch.testing.assert_close(Appearance(**EVERYTHING).apply(before, all_of_it), seen, atol=1e-5, rtol=0)


def test_neutral_looks_leave_the_images():
    before = images(3, 0.0, 1.0)
    torch.testing.assert_close(Appearance(**EVERYTHING).apply(before, look(3)), before, atol=1e-6, rtol=0)
    assert torch.equal(
        Appearance(**EVERYTHING | {"jitter_prob": 0.0, "grayscale": 0.0}).apply(before, look(3)), before
    )


@pytest.mark.parametrize("channels", [1, 4])
def test_color_operations_skip_images_without_three_channels(channels):
    before = images(1, 0.0, 1.0, channels=channels)
    strong = look(1, brightness=0.5, contrast=0.5, saturation=0.0, hue=0.3, grayscale=True)
    assert torch.equal(Appearance(**COLOR).apply(before, strong), before)


@pytest.mark.parametrize(
    ("mistake", "told", "nearest"),
    [
        ({"brightness": 1.5}, "cropping.appearance.brightness=1.5", "1"),
        ({"contrast": -0.1}, "cropping.appearance.contrast=-0.1", "0"),
        ({"saturation": 2.0}, "cropping.appearance.saturation=2.0", "1"),
        ({"hue": 0.6}, "cropping.appearance.hue=0.6", "0.5"),
        ({"jitter_prob": 1.1}, "cropping.appearance.jitter_prob=1.1", "1"),
        ({"grayscale": -1.0}, "cropping.appearance.grayscale=-1.0", "0"),
        ({"blur": 7.0}, "cropping.appearance.blur=7.0", "1"),
        ({"solarize": 1.01}, "cropping.appearance.solarize=1.01", "1"),
        ({"blur_sigma": [2.0, 0.1]}, "cropping.appearance.blur_sigma=[2.0, 0.1]", "[0.1, 2.0]"),
        ({"blur_sigma": [0.0, 1.0]}, "cropping.appearance.blur_sigma=[0.0, 1.0]", "[0.1, 2.0]"),
        ({"blur_sigma": [1.0]}, "cropping.appearance.blur_sigma=[1.0]", "[0.1, 2.0]"),
    ],
)
def test_a_mistake_gets_one_line_with_setting_value_and_nearest(mistake, told, nearest):
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}: [^\n]*try {re.escape(nearest)}$"):
        Appearance(**EVERYTHING | mistake)
