"""Colored masks over their image: image | truth | prediction, with the names of the classes below."""

import colorsys
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

GOLDEN = 0.618034  # of a turn: hues of neighboring numbers lie far apart, however many there are
TONES = [(0.9, 1.0), (0.5, 0.85), (0.9, 0.55), (0.5, 1.0), (0.9, 0.85), (0.5, 0.55)]  # saturation, value
SHARE = 0.6  # of the color
LINE = 14  # height of a line of names, in pixels


def palette(count: int) -> UInt8[np.ndarray, "n 3"]:
    """A color a class."""
    colors = [colorsys.hsv_to_rgb(i * GOLDEN % 1, *TONES[i % len(TONES)]) for i in range(count)]
    return np.rint(np.array(colors).reshape(-1, 3) * 255).astype(np.uint8)


def overlay(image: UInt8[np.ndarray, "h w 3"], mask: np.ndarray, count: int) -> UInt8[np.ndarray, "h w 3"]:
    """Classes 0..count - 1 in their colors over a gray image; other labels leave it dark."""
    gray = image.mean(axis=2, keepdims=True)
    colors = np.concatenate((palette(count), np.zeros((256 - count, 3), np.uint8)))
    return np.rint((1 - SHARE) * gray + SHARE * colors[mask]).astype(np.uint8)


def draw(
    image: UInt8[np.ndarray, "h w 3"], truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]
) -> Image.Image:
    """The three side by side, and the classes that occur in either mask.

    Args:
        image: 0..255.
        truth: "h w", class numbers; others are ignored.
        predicted: "h w", class numbers.
        classes: their names.
    """
    count = len(classes)
    row = np.concatenate((image, overlay(image, truth, count), overlay(image, predicted, count)), axis=1)
    present = [int(i) for i in np.union1d(truth, predicted) if i < count]
    columns = max(row.shape[1] // 110, 1)
    lines = -(-len(present) // columns)
    page = Image.new("RGB", (row.shape[1], row.shape[0] + lines * LINE + 4), "white")
    page.paste(Image.fromarray(row))
    pen, colors = ImageDraw.Draw(page), palette(count)
    for place, i in enumerate(present):
        x, y = place % columns * 110 + 2, row.shape[0] + place // columns * LINE + 3
        pen.rectangle((x, y, x + 9, y + 9), fill=tuple(colors[i].tolist()))
        pen.text((x + 13, y - 1), classes[i][:15], fill="black")
    return page
