"""Contexts and exemplars made image by image with Pillow and torchvision, in the way of most data sets."""

import io
import math

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from cim_lightning.cropping.boxes import Boxes

VIEW, CONTEXT, EXEMPLAR = 224, 160, 64
COLORS = v2.Compose(
    [
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([v2.GaussianBlur(13, (0.1, 2.0))], p=0.5),
        v2.RandomSolarize(128, 0.2),
    ]
)
TO_TENSOR = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


def jpegs(count: int) -> list[bytes]:
    """Return JPEG files of smooth noise, of 500 x 375 pixels."""
    rng, files = np.random.default_rng(0), []
    for _ in range(count):
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        file = io.BytesIO()
        small.resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
        files.append(file.getvalue())
    return files


def view_of(jpeg: bytes) -> Image.Image:
    """Decode a file and resize its centered square to the view."""
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    left, side = (image.width - image.height) / 2, image.height
    box = (left, 0, left + side, side)
    return image.resize((VIEW, VIEW), Image.Resampling.BICUBIC, box=box)


def crop(jpeg: bytes, boxes: Boxes) -> list[torch.Tensor]:
    """Return context, exemplars and maps: each exemplar is cropped from a rotated copy of the view."""
    view = view_of(jpeg)
    exemplars = [
        exemplar(view, *(values[0, j] for values in (boxes.center, boxes.size, boxes.angle)))
        for j in range(boxes.angle.shape[1])
    ]
    context = TO_TENSOR(view.resize((CONTEXT, CONTEXT), Image.Resampling.BICUBIC))
    return [context, torch.stack(exemplars), boxes.rasterize(CONTEXT, CONTEXT)[0]]


def exemplar(
    view: Image.Image, center: torch.Tensor, size: torch.Tensor, angle: torch.Tensor
) -> torch.Tensor:
    x, y = center.tolist()
    width, height = (size / 2).tolist()
    upright = view.rotate(math.degrees(angle.item()), Image.Resampling.BILINEAR, center=(x, y))
    box = (max(x - width, 0), max(y - height, 0), min(x + width, VIEW), min(y + height, VIEW))
    return TO_TENSOR(COLORS(upright.resize((EXEMPLAR, EXEMPLAR), Image.Resampling.BICUBIC, box=box)))
