"""The index of a folder of archives: which images they have, where, and with which labels and keys."""

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt64

from cim_lightning.atomic import replacing
from cim_lightning.data.archive_part import Part
from cim_lightning.data.array_cache import as_bytes
from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.image_keys import image_keys
from cim_lightning.data.tar_set import Places
from cim_lightning.errors import ConfigError

FILE = "index.npz"
VERSION = 1
AGAIN = "run the same cim-prepare archives again"


class IndexedImages(NamedTuple):
    """Images of one split, in the order of the source that the archives were made from."""

    files: FileIndex  # names in the archives
    places: Places
    labels: Int32[np.ndarray, " n"]  # in 0..len(classes) - 1, or NO_LABEL
    keys: UInt64[np.ndarray, " n"]  # of the images in the source, see Source


class ArchiveIndex(NamedTuple):
    """All images of a folder of archives."""

    archives: Mapping[str, int]  # size in bytes by name
    splits: Mapping[str, IndexedImages]  # "train", "val"
    classes: Mapping[str, list[str] | None]  # by split, see Source
    unknown_classes: Mapping[str, list[str]]  # by split, see Source
    drawn: bool  # whether the validation images are a random part of the training images


def merge(parts: Sequence[tuple[int, Part]], source: Any) -> IndexedImages:
    """Return the images of numbered archives, in the order of their source."""

    def names() -> Iterator[str]:
        for _, part in parts:
            yield from part.names

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for _, part in parts])

    archives = np.concatenate([np.full(len(part.rows), number, np.int32) for number, part in parts])
    places = Places(archives, column("offsets"), column("sizes"))
    keys = image_keys(source)[column("rows")]
    return IndexedImages(FileIndex.from_names("", names()), places, column("labels"), keys)


def write(folder: Path, index: ArchiveIndex) -> None:
    """Write the index of a folder."""
    arrays: dict[str, np.ndarray] = {}
    for split, images in index.splits.items():
        names, lengths = images.files.joined_names()
        columns = {
            "names": np.frombuffer(names, np.uint8),
            "lengths": lengths.astype(np.uint16),
            **images.places._asdict(),
            "labels": images.labels,
            "keys": images.keys,
        }
        arrays |= {f"{split}_{column}": array for column, array in columns.items()}
    about = {
        "version": VERSION,
        "archives": [*index.archives.items()],
        "splits": list(index.splits),
        "classes": dict(index.classes),
        "unknown_classes": dict(index.unknown_classes),
        "drawn": index.drawn,
    }
    with replacing(folder / FILE) as temporary, temporary.open("wb") as file:
        np.savez(file, about=as_bytes(about), allow_pickle=False, **arrays)


def read(folder: Path, given: str) -> ArchiveIndex:
    """Return the index of a folder of archives.

    Args:
        given: value of the parameter `root`, for errors.

    Raises:
        ConfigError: the index is damaged or of another version, or an archive is missing or has changed.
    """
    index = None
    try:
        with np.load(folder / FILE, allow_pickle=False) as entry:
            arrays = dict(entry)
        about = json.loads(arrays["about"].tobytes())
        if (version := about["version"]) == VERSION:
            splits = {split: _images(arrays, split) for split in about["splits"]}
            entries = (about[name] for name in ("classes", "unknown_classes", "drawn"))
            index = ArchiveIndex(dict(about["archives"]), splits, *entries)
    except OSError as error:
        raise ConfigError("root", given, f"{FILE} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError("root", given, f"{FILE} is damaged", hint=AGAIN) from error
    if index is None:
        rule = f"{FILE} is of version {version}, and this program reads version {VERSION}"
        raise ConfigError("root", given, rule, hint="make the archives again, in a new folder")
    _check_archives(folder, index.archives, given)
    return index


def _images(arrays: Mapping[str, Any], split: str) -> IndexedImages:
    start = f"{split}_"
    part = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
    files = FileIndex.from_lengths("", part["names"].tobytes(), part["lengths"])
    places = Places(part["archives"], part["offsets"], part["sizes"])
    return IndexedImages(files, places, part["labels"], part["keys"])


def _check_archives(folder: Path, archives: Mapping[str, int], given: str) -> None:
    for name, size in archives.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            rule = (
                f"{name} is missing" if found is None else f"{name} has {found:,} bytes instead of {size:,}"
            )
            raise ConfigError("root", given, rule, hint=f"copy it again, or {AGAIN}")
