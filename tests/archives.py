"""Tar archives of tiny images for tests, and what the source of archives makes of them."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cim_lightning.data.pixel_format import RGB8
from cim_lightning.data.source import Splits
from cim_lightning.data.webdataset import webdataset


def png(value: int) -> bytes:
    """Return an image of one pixel with a red value."""
    data = io.BytesIO()
    Image.new("RGB", (1, 1), (value, 0, 0)).save(data, "PNG")
    return data.getvalue()


def write_tar(path: Path, content: Mapping[str, Any], format: int = tarfile.PAX_FORMAT) -> Path:
    """Write an archive of files by name: an int is an image, a dict is JSON; others are the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, value in content.items():
            value = png(value) if isinstance(value, int) else value
            value = json.dumps(value) if isinstance(value, dict) else value
            data = value.encode() if isinstance(value, str) else value
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def open_tars(root: Any, val_fraction: float = 0.5, seed: int = 0, **settings: Any) -> Splits:
    """Return the splits of archives of RGB images."""
    return webdataset(root, val_fraction, seed, RGB8, **settings)


def images(source: Any) -> list[tuple[int, str | None]]:
    """Return the red value and the class of each image, in order; None: no label."""
    classes = [*(source.classes or ()), None]  # the label -1 is the last one
    pairs = [source[i] for i in range(len(source))]
    return [(int(np.asarray(image)[0, 0, 0]), classes[label]) for image, label in pairs]


def all_images(root: Any, **settings: Any) -> list[tuple[int, str | None]]:
    """Return the red value and the class of each image of archives, in order."""
    return images(open_tars(root, train=".", val="none", **settings).train)
