"""An archive of JPEG images for benchmarks without a data set."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def make_archive(folder: Path, count: int) -> Path:
    """Write JPEG images of 256 pixels and quality 90 into one archive; 64 contents repeat."""
    rng, contents = np.random.default_rng(0), []
    for _ in range(64):
        data = io.BytesIO()
        coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8))
        coarse.resize((256, 256), Image.Resampling.BICUBIC).save(data, "JPEG", quality=90)
        contents.append(data.getvalue())
    path = folder / "images.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(count):
            info = tarfile.TarInfo(f"{number % 4}/{number:06}.jpg")
            info.size = len(contents[number % 64])
            archive.addfile(info, io.BytesIO(contents[number % 64]))
    return path
