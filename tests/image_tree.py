"""Folder trees of tiny images for tests, and what the folder source makes of them."""

from pathlib import Path
from typing import Any

from PIL import Image

from cim_lightning.data.folder import folder
from cim_lightning.data.image_files import ImageFiles
from cim_lightning.data.pixel_format import RGB8
from cim_lightning.data.source import Splits


def save_images(root: Path, *names: str) -> Path:
    """Save a 1x1 image at each name; its red value is the index of the name."""
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1, 1), (i, 0, 0)).save(path, "PNG")
    return root


def open_folder(root: Any, val_fraction: float = 0.5, seed: int = 0, **settings: Any) -> Splits:
    """Return the splits of the folder source for RGB images."""
    return folder(root, val_fraction, seed, RGB8, **settings)


def contents(source: Any, root: Path) -> dict[str, str | None]:
    """Return the class of each image by its path relative to root; None: no label."""
    if not len(source):
        return {}
    assert isinstance(source, ImageFiles)
    classes = [*(source.classes or ()), None]  # the label -1 is the last one
    paths = [source.path(i).removeprefix(f"{root}/") for i in range(len(source))]
    return {path: classes[label] for path, label in zip(paths, source.labels, strict=True)}
