"""A folder in which archives are being written: what it is for, and which archives are finished."""

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cim_lightning.atomic import TEMPORARY, read_json, remove_temporaries, replacing, write_json
from cim_lightning.data.archive_part import Part
from cim_lightning.data.image_keys import image_keys
from cim_lightning.errors import ConfigError, format_value

FILE = "archives.json"
PARTS = ".parts"  # folder of what is known about finished archives
LOCK = ".lock"
IMAGES = ("train_images", "val_images")  # entries of the description that no setting changes


class ArchiveFolder:
    """The folder of archives of a data set, made by one run of the command or by several.

    Args:
        path: of the folder.
        description: settings and images that the archives depend on, as plain values.

    Raises:
        ConfigError: the folder has other files, or archives of other images or settings.
    """

    def __init__(self, path: Path, description: Mapping[str, Any]):
        self.path, self.description = path, dict(description)
        self._check()

    def open(self) -> None:
        """Make the folder, and remove unfinished files of a killed process. No other process may use it.

        Raises:
            ConfigError: another process has written other files or archives there since the first check.
        """
        self._check()
        self.path.mkdir(parents=True, exist_ok=True)
        remove_temporaries(self.path)
        write_json(self.path / FILE, self.description)  # first: without it, the folder is that of others
        (self.path / PARTS).mkdir(exist_ok=True)

    def part(self, archive: str) -> Part | None:
        """Return the images of an archive; None if it is not finished."""
        with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            with np.load(self._part_path(archive), allow_pickle=False) as entry:
                arrays = dict(entry)
            size = int(arrays.pop("archive_size"))
            names = json.loads(arrays.pop("names").tobytes())
            if (self.path / archive).stat().st_size == size:
                return Part(**arrays, names=names)
        return None

    def finish(self, archive: str, part: Part) -> None:
        """Record the images of an archive that is complete."""
        arrays: dict[str, Any] = part._asdict()
        arrays["names"] = np.frombuffer(json.dumps(part.names).encode(), np.uint8)
        arrays["archive_size"] = np.array((self.path / archive).stat().st_size)
        with replacing(self._part_path(archive)) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def _part_path(self, archive: str) -> Path:
        return self.path / PARTS / f"{archive}.npz"

    def _check(self) -> None:
        names = {child.name for child in self.path.iterdir()} if self.path.is_dir() else set()
        others = {name for name in names if name != LOCK and not name.endswith(TEMPORARY)}
        if FILE in others:
            self._compare(read_json(self.path / FILE))
        elif others:
            rule = f"has other files, such as {min(others)}"
            raise ConfigError("folder", self.path, rule, hint="try a new folder")

    def _compare(self, found: Mapping[str, Any]) -> None:
        for name, value in self.description.items():
            if found.get(name) == value:
                continue
            if name in IMAGES:
                rule, hint = "has archives of other images", "try a new folder"
            else:
                there = f"{name}={format_value(found.get(name))}"
                rule, hint = f"has archives with {there}", f"try {there}, or a new folder"
            raise ConfigError("folder", self.path, rule, hint=hint)


def identity(source: Any) -> str:
    """Return a hash of what identifies the images of a Source: their keys, labels and fingerprint."""
    content = hashlib.blake2b(image_keys(source).astype("<u8").tobytes(), digest_size=16)
    labels = getattr(source, "labels", None)
    content.update(
        repr((source.classes, getattr(source, "fingerprint", None))).encode("utf-8", "surrogateescape")
    )
    content.update(b"" if labels is None else np.asarray(labels).astype("<i4").tobytes())
    return content.hexdigest()
