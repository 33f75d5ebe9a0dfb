"""The source that reads tar archives: WebDataset shards, and archives of folders."""

import logging
import os
from collections.abc import Mapping, Sequence

import numpy as np

from cim_lightning.checks import check_at_least, check_share
from cim_lightning.data.archive_source import has_index, indexed_splits
from cim_lightning.data.class_labels import LabeledFiles, sorted_classes
from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.given_path import GivenPath
from cim_lightning.data.image_files import ImageFiles
from cim_lightning.data.listing import Listing
from cim_lightning.data.named_splits import Files, split_by_name
from cim_lightning.data.open_splits import NO_VAL, normalize_val, open_splits
from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.data.shard_paths import expand_shards, names_archives
from cim_lightning.data.shard_splits import given_splits, split_folders
from cim_lightning.data.source import NO_LABEL, Source, Splits
from cim_lightning.data.tar_cache import cached_set
from cim_lightning.data.tar_images import TarImages
from cim_lightning.data.tar_set import TarSet
from cim_lightning.errors import ConfigError

log = logging.getLogger(__name__)
ALL = "."  # value of `train`: all images
Value = str | Sequence[str] | None


def webdataset(
    root: str | Sequence[str],
    val_fraction: float,
    seed: int,
    pixels: PixelFormat,
    train: Value = None,
    val: Value = None,
) -> Splits:
    """Images in tar archives. They are read in random order, so archives may not be compressed.

    Order: by the names of the images, so archives of a folder have the order of the folder.

    Splits: archives whose names have words such as `train` and `val`, or else such folders in the archives
    (see split_names). Otherwise, the validation images are drawn at random from all images.

    Labels: the fields `cls` or `json` of WebDataset (see tar_index), or else the first-level folders in the
    archives. Validation images of a class that the training images lack have no label.

    Archives of `cim-prepare archives` have an index with the splits, labels and order of the images that they
    were made from. It is used unless `train` or `val` say otherwise.

    Args:
        root: a folder, an archive, a glob, a range such as `shard-{000..127}.tar`, or a list of them.
        val_fraction: share of the validation images, above 0 and below 1; each split has at least one image.
        seed: of the random split.
        pixels: format of the images.
        train, val: archives, relative to root or to the working directory, or a folder in the archives;
            null: found by name. `train=.` uses all images, and `val=none` no validation images. Validation
            images are left out of the training images.

    Raises:
        ConfigError: an archive does not exist or is compressed, or there are too few images.
    """
    check_share("val_fraction", val_fraction, zero=False, one=False)
    check_at_least("seed", seed, 0)
    val = normalize_val(val)
    if isinstance(root, str) and train is None and val in (None, NO_VAL) and has_index(root):
        return indexed_splits(root, val, pixels)
    shards = expand_shards(root)
    base = os.path.commonpath([os.path.dirname(path) for path in shards])
    if isinstance(root, str) and os.path.isdir(os.path.expanduser(root)):
        base = os.path.abspath(os.path.expanduser(root))
    paths, archives, inside = _given_archives(shards, base, train, val)
    whole = train == ALL or bool(inside)  # the names of the archives do not matter
    folders = [""] * len(paths) if whole and not archives else split_folders(paths, base, archives)
    try:
        found = cached_set(paths, folders, pixels.suffixes)
    except ConfigError as error:
        values = {"root": root, "train": train, "val": val}
        raise _name_setting(error, values, {"root": shards, **archives}) from error
    _check(root, paths, found)
    if archives or whole:
        named = given_splits(found.files, archives, inside)
    else:
        given = GivenPath("root", root, root if isinstance(root, str) else ", ".join(root))
        named = split_by_name(Listing(found.files, found.skipped), given)
    if found.labels:
        parts = ([_labeled(files, found) for files in part] for part in (named.train, named.val))
        named = named._replace(train=next(parts), val=next(parts))
    named = named._replace(skipped=named.skipped + found.skipped)
    opened = open_splits(named, root, val, val_fraction, seed, pixels)
    train_images, val_images = (_tar_images(part, paths, found) for part in (opened.train, opened.val))
    return Splits(train_images, val_images, opened.summary, opened.drawn)


def _given_archives(
    shards: Sequence[str], base: str, train: Value, val: Value
) -> tuple[list[str], dict[str, list[str]], dict[str, str]]:
    """Return all archives, those of the given splits, and the folders in archives of the given splits."""
    bases = (base, "")
    archives: dict[str, list[str]] = {}
    inside: dict[str, str] = {}
    for split, value in (("train", train), ("val", val)):
        if value is None or value in (ALL, NO_VAL):
            continue
        if isinstance(value, str) and not names_archives(value, bases):
            inside[split] = value
        else:
            archives[split] = expand_shards(value, split, bases)
    paths = sorted({*shards, *(path for part in archives.values() for path in part)})
    if train == ALL and "val" in archives:
        archives["train"] = paths
    if both := set(archives.get("train", ())) & set(archives.get("val", ())):
        archives["train"] = [path for path in archives["train"] if path not in both]
    return paths, archives, inside


def _name_setting(
    error: ConfigError, values: Mapping[str, Value], archives: Mapping[str, Sequence[str]]
) -> ConfigError:
    """Return an error about an archive with the setting that names the archive."""
    parameter = next(name for name, paths in archives.items() if error.value in paths)
    return GivenPath(parameter, values[parameter] or "", error.value).error(error.rule, error.hint)


def _check(root: str | Sequence[str], paths: Sequence[str], found: TarSet) -> None:
    """Require images, and warn about damaged archives."""
    if not len(found.files):
        counts = ", ".join(f"{count:,} {reason}" for reason, count in found.skipped.most_common(5))
        hint = found.damaged[0][1] if found.damaged else f"found: {counts or 'nothing'}"
        raise ConfigError("root", root, f"has no image in {len(paths):,} archive(s)", hint=hint)
    if found.damaged:
        number, reason = found.damaged[0]
        count = np.bincount(found.places.archives, minlength=len(paths))[number]
        line = "%d of %d archives are damaged; their complete images are used, such as %d in %s (%s)"
        log.warning(line, len(found.damaged), len(paths), count, paths[number], reason)


def _labeled(files: Files, found: TarSet) -> LabeledFiles:
    """Label images by the fields of their samples."""
    assert isinstance(files, FileIndex)
    texts = found.texts[files.rows]
    classes = sorted_classes({found.labels[text] for text in np.unique(texts[texts >= 0])})
    numbers = {name: i for i, name in enumerate(classes)}
    table = np.array([*(numbers.get(text, NO_LABEL) for text in found.labels), NO_LABEL], np.int32)
    return LabeledFiles(files, table[texts], classes)


def _tar_images(source: Source, paths: Sequence[str], found: TarSet) -> Source:
    """Return the images of an index of names, read from the archives."""
    if not isinstance(source, ImageFiles):
        return source
    places = found.places.take(source.files.rows)
    labels, classes, unknown = source.labels, source.classes, source.unknown_classes
    return TarImages(paths, source.files, places, labels, classes, source.pixels, unknown)
