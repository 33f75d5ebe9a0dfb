"""Evaluation data sets from class folders: domains, variants of a test set, corrupted images."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cim_lightning.data.cache_policy import NONE
from cim_lightning.data.class_labels import label_by_folder
from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.files import closest_name, existing_folder
from cim_lightning.data.folder import folder
from cim_lightning.data.image_files import ImageFiles
from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.data.scan import scan
from cim_lightning.data.source import Splits
from cim_lightning.errors import ConfigError

SEVERITIES = (1, 2, 3, 4, 5)


def domains(
    root: str,
    view_size: int,
    batch_size: int,
    num_workers: int,
    val_fraction: float,
    seed: int,
    channels: int = 3,
    bits: int = 8,
) -> dict[str, ImageData]:
    """Return the images of each domain, from `root/<domain>/<class>/...`, the layout of PACS.

    For channels and bits, see PixelFormat.

    Raises:
        ConfigError: fewer than two domains, or domains with different classes.
    """
    paths = sorted(p for p in Path(existing_folder(root)).iterdir() if p.is_dir() and p.name[0] != ".")
    if len(paths) < 2:
        rule = f"has {len(paths)} domain folder(s), must have two or more"
        raise ConfigError("root", root, rule, hint="try a folder laid out as <domain>/<class>/<image>")
    sources = {path.name: partial(folder, str(path), val_fraction=val_fraction, seed=seed) for path in paths}
    found = _images(sources, view_size, batch_size, num_workers, channels, bits)
    classes = {name: set(data.splits.train.classes or ()) for name, data in found.items()}
    first = next(iter(classes))
    for name in classes:
        for missing in sorted(classes[first] ^ classes[name]):
            hint = closest_name(missing, (classes[first] | classes[name]) - {missing})
            rule = f"{first} and {name} do not both have the class {missing}"
            raise ConfigError("root", root, rule, hint=hint)
    return found


def variants(
    roots: Mapping[str, str],
    view_size: int,
    batch_size: int,
    num_workers: int,
    channels: int = 3,
    bits: int = 8,
) -> dict[str, ImageData]:
    """Return the images of each folder in `roots`, by name, as the "val" split.

    For channels and bits, see PixelFormat.

    Raises:
        ConfigError: no folder is given, or a folder does not exist or has no class folders.
    """
    if not roots:
        raise ConfigError("roots", "{}", "has no folder", hint="try roots={imagenet_a: /my/imagenet-a}")
    sources = {name: partial(_one_split, root, name) for name, root in roots.items()}
    found = _images(sources, view_size, batch_size, num_workers, channels, bits)
    for data in found.values():
        _ = data.splits  # find errors in all folders before the evaluation
    return found


def corrupted(
    root: str,
    corruptions: Sequence[str],
    view_size: int,
    batch_size: int,
    num_workers: int,
    channels: int = 3,
    bits: int = 8,
) -> dict[tuple[str, int], ImageData]:
    """Return images by (corruption, severity), from `root/<corruption>/<1 to 5>/<class>/...`, as ImageNet-C.

    The millions of images are listed on first use. For channels and bits, see PixelFormat.

    Raises:
        ConfigError: a folder does not exist.
    """
    top = existing_folder(root)
    folders = {(name, s): Path(top, name, str(s)) for name in corruptions for s in SEVERITIES}
    for (name, severity), path in folders.items():
        if not path.is_dir():
            hint = "try a folder laid out as <corruption>/<severity>/<class>/<image>, or fewer corruptions"
            raise ConfigError("root", root, f"has no folder {name}/{severity}", hint=hint)
    sources = {key: partial(_one_split, str(path), "root") for key, path in folders.items()}
    return _images(sources, view_size, batch_size, num_workers, channels, bits)


def _one_split(root: str, parameter: str, pixels: PixelFormat) -> Splits:
    """Return the images in `root/<class>/...` as both splits."""
    found = label_by_folder(scan(existing_folder(root, parameter), pixels.suffixes).files)
    if len(found.classes) < 2:
        rule = "must have two or more class folders of images"
        raise ConfigError(parameter, root, rule, hint="try a folder laid out as <class>/<image>")
    files = ImageFiles(found.files, found.labels, found.classes, pixels)
    return Splits(files, files)


def _images(
    sources: Mapping[Any, Callable[..., Splits]],
    view_size: int,
    batch_size: int,
    num_workers: int,
    channels: int,
    bits: int,
) -> dict[Any, ImageData]:
    settings = (lambda views, seeds: views, batch_size, num_workers, view_size, (1, 1), (1, 1), 0, 0)
    return {  # the evaluation limits the share of bad images, and reads an image few times
        key: ImageData(source, *settings, channels, bits, max_bad_share=1.0, cache=NONE)
        for key, source in sources.items()
    }
