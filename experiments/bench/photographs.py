"""JPEG photographs for benchmarks: those of a folder, or smooth noise with some grain."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

SUFFIXES = (".jpg", ".jpeg")
SHAPES = [(375, 500), (333, 500), (500, 375), (375, 500), (400, 500)]  # height, width; usual in ImageNet


def photographs(folder: Path | None, count: int) -> list[bytes]:
    """Return at most `count` JPEG files.

    Args:
        folder: of photographs, at any depth; None: noise, in files of about 106 kB as in ImageNet.
        count: of the files.
    """
    if folder:
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        return [path.read_bytes() for path in found[:count]]
    rng, files = np.random.default_rng(0), []
    for number in range(count):
        height, width = SHAPES[number % len(SHAPES)]
        coarse = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
        pixels = (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=92, subsampling=0)
        files.append(file.getvalue())
    return files
