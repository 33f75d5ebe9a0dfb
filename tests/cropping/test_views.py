"""Types of views, and their values in 0..1."""

import pytest
import torch

from cim_lightning.cropping.views import rgb_preview, to_unit_range


@pytest.mark.user_input(
    "pixels",
    "views of 16 bits on the device",
    "0..65535 becomes 0..1",
    source="https://github.com/Nerogar/mgds/issues/55",
)
@pytest.mark.parametrize(
    ("views", "expected"),
    [
        (torch.tensor([0, 51, 255], dtype=torch.uint8), [0, 0.2, 1]),
        (torch.tensor([0, 13107, 65535], dtype=torch.uint16), [0, 0.2, 1]),
        (torch.tensor([0.0, 0.2, 1.0]), [0, 0.2, 1]),
    ],
)
def test_views_of_every_type_are_in_0_to_1(views, expected):
    found = to_unit_range(views.expand(1, 2, 3, 3))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[0, 0, 0], torch.tensor(expected, dtype=torch.float32))


def test_views_of_8_bits_have_the_values_of_a_division():
    views = torch.arange(256, dtype=torch.uint8).expand(1, 1, 1, 256)
    assert torch.equal(
        to_unit_range(views), views.float() / 255
    )  # a product with 1 / 255 has other last bits


def test_a_preview_has_three_channels_in_0_to_1():
    images = torch.tensor([-0.5, 0.25, 0.5, 0.75, 2.0])[:, None, None]
    assert rgb_preview(images).flatten().tolist() == [0, 0.25, 0.5]
    assert rgb_preview(images[1:2]).flatten().tolist() == [0.25] * 3
    assert rgb_preview(images[3:]).flatten().tolist() == [0.75] * 3
    assert rgb_preview(images[:, None].expand(5, 4, 6, 7)).shape == (5, 3, 6, 7)
