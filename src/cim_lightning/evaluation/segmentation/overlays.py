"""Pictures of predicted masks: image | mask | prediction, and a legend of the classes."""

import colorsys
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

HUE_STEP = 0.618034  # between two classes; with the golden ratio, successive hues are far apart
TONES = [(0.9, 1.0), (0.5, 0.85), (0.9, 0.55), (0.5, 1.0), (0.9, 0.85), (0.5, 0.55)]  # saturation, value
ALPHA = 0.6  # of the color over the gray image
ROW, COLUMN = 14, 110  # pixels of a legend entry


def palette(classes: int) -> UInt8[np.ndarray, "n 3"]:
    """Return one color per class."""
    colors = [colorsys.hsv_to_rgb(i * HUE_STEP % 1, *TONES[i % len(TONES)]) for i in range(classes)]
    return np.rint(np.array(colors).reshape(-1, 3) * 255).astype(np.uint8)


def overlay(image: UInt8[np.ndarray, "h w 3"], mask: np.ndarray, classes: int) -> UInt8[np.ndarray, "h w 3"]:
    """Blend the colors of a mask with the gray image; the color of ignored pixels is black."""
    gray = image.mean(axis=2, keepdims=True)
    colors = np.concatenate((palette(classes), np.zeros((256 - classes, 3), np.uint8)))
    return np.rint((1 - ALPHA) * gray + ALPHA * colors[mask]).astype(np.uint8)


def draw(
    image: UInt8[np.ndarray, "h w 3"], mask: np.ndarray, predicted: np.ndarray, classes: Sequence[str]
) -> Image.Image:
    """Draw image, mask and prediction side by side, above the names of all classes in them."""
    count = len(classes)
    row = np.concatenate((image, overlay(image, mask, count), overlay(image, predicted, count)), axis=1)
    present = [int(i) for i in np.union1d(mask, predicted) if i < count]
    columns = max(row.shape[1] // COLUMN, 1)
    page = Image.new("RGB", (row.shape[1], row.shape[0] + -(-len(present) // columns) * ROW + 4), "white")
    page.paste(Image.fromarray(row))
    pen, colors = ImageDraw.Draw(page), palette(count)
    for entry, i in enumerate(present):
        x, y = entry % columns * COLUMN + 2, row.shape[0] + entry // columns * ROW + 3
        pen.rectangle((x, y, x + 9, y + 9), fill=tuple(colors[i].tolist()))
        pen.text((x + 13, y - 1), classes[i][:15], fill="black")
    return page
