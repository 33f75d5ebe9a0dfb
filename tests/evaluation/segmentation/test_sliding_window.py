"""Whole-image and sliding-window inference with models of known output."""

import re

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.segmentation.sliding_window import SlidingWindow
from cim_lightning.models.module_backbone import ModuleBackbone


def identity(images: torch.Tensor) -> torch.Tensor:
    return images


def with_patches(patch: int, mean: float = 0.0, std: float = 1.0) -> ModuleBackbone:
    return ModuleBackbone(torch.nn.AvgPool2d(patch), 3, patch, mean=[mean] * 3, std=[std] * 3)


def by_hand(image: torch.Tensor, window: int, rows: list[int], columns: list[int], model) -> torch.Tensor:
    """Reference: the mean over all windows that contain a pixel, pixel by pixel."""
    h, w = image.shape[-2:]
    logits = {(y, x): model(image[..., y : y + window, x : x + window])[0] for y in rows for x in columns}
    out = torch.zeros(next(iter(logits.values())).shape[0], h, w)
    for i in range(h):
        for j in range(w):
            overlapping = [
                window_logits[:, i - y, j - x]
                for (y, x), window_logits in logits.items()
                if y <= i < y + window and x <= j < x + window
            ]
            out[:, i, j] = torch.stack(overlapping).mean(dim=0)
    return out


def centered(images: torch.Tensor) -> torch.Tensor:
    """A model that depends on the position of the window: one class is the image without its mean."""
    first = images[:, :1] - images[:, :1].mean(dim=(2, 3), keepdim=True)
    return (
        torch.cat((first, images[:, 1:2] * images.mean()), dim=1)
        if len(images) == 1
        else torch.cat([centered(image[None]) for image in images])
    )


@pytest.mark.parametrize(
    ("overlap", "rows", "columns"),
    [(0.0, [0, 1], [0, 6, 7]), (0.5, [0, 1], [0, 3, 6, 7]), (1 / 3, [0, 1], [0, 4, 7])],
)
def test_overlapping_windows_are_averaged(overlap: float, rows: list[int], columns: list[int]) -> None:
    image = torch.rand(1, 3, 7, 13)
    windows = SlidingWindow(None, 6, overlap)
    assert (windows.starts(7, 6), windows.starts(13, 6)) == (rows, columns)
    torch.testing.assert_close(windows.slide(centered, image)[0], by_hand(image, 6, rows, columns, centered))


@pytest.mark.parametrize("size", [13, 64])
def test_a_window_larger_than_the_image_is_the_whole_image(size: int) -> None:
    image = (torch.rand(3, 11, 13) * 255).to(torch.uint8)
    whole = SlidingWindow(20, None, 0.5)(centered, image, with_patches(4))
    torch.testing.assert_close(SlidingWindow(20, max(size, 28), 0.5)(centered, image, with_patches(4)), whole)
    assert whole.shape == (2, 11, 13)


def test_images_are_resized_and_padded_and_logits_resized_back() -> None:
    inputs = []

    def model(images: torch.Tensor) -> torch.Tensor:
        inputs.append(images)
        return images[:, :1]

    image = torch.full((3, 10, 14), 255, dtype=torch.uint8)
    logits = SlidingWindow(20, None, 0.0)(model, image, with_patches(8, mean=0.5, std=0.25))
    assert inputs[0].shape == (1, 3, 24, 32)
    assert inputs[0][..., :20, :28].eq(2).all()
    assert not inputs[0][..., 20:, :].any()
    assert not inputs[0][..., 28:].any()
    torch.testing.assert_close(logits, torch.full((1, 10, 14), 2.0))  # no padding


def test_the_position_of_a_pixel_is_preserved() -> None:
    image = torch.zeros(3, 12, 18, dtype=torch.uint8)
    image[:, 7, 3] = 255
    for windows in (SlidingWindow(None, None, 0.0), SlidingWindow(None, 8, 0.4)):
        logits = windows(identity, image, with_patches(4))
        assert divmod(int(logits[0].argmax()), 18) == (7, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [((0, None, 0.5), "short_side=0"), ((None, 0, 0.5), "size=0"), ((None, 8, 1.0), "overlap=1.0")],
)
def test_invalid_settings_raise(settings: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}: [^\n]*; try "):
        SlidingWindow(*settings)


def test_a_window_may_have_one_pixel() -> None:
    assert SlidingWindow(1, 1, 0.0).size == 1
