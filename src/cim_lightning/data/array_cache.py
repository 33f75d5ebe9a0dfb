"""Arrays in the user's cache folder: what takes long to find in large data sets."""

import contextlib
import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cim_lightning.atomic import replacing

MAX_BYTES = 1 << 30  # of all entries; the least recently used ones are deleted
SETTLED_NS = 2 * 10**9  # what changed later may change again within the resolution of its time


def cache_folder() -> Path | None:
    """Return the folder of the cache, which may not exist; None if the user has no home folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    base = base if os.path.isabs(base) else os.path.expanduser("~/.cache")
    return Path(base, "cim_lightning", "scans") if os.path.isabs(base) else None


def entry_path(key: Any) -> Path | None:
    """Return the path of the entry for a key that JSON can express; None if there is no cache."""
    folder = cache_folder()
    return folder and folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.npz"


def read_entry(path: Path | None) -> dict[str, np.ndarray] | None:
    """Return the arrays of an entry; None if there is none, or if it is damaged."""
    with contextlib.suppress(OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        if path is not None:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as entry:
                arrays = dict(entry)
            os.utime(path)
            return arrays
    return None


def write_entry(path: Path | None, arrays: Mapping[str, Any]) -> None:
    """Write arrays as an entry if the folder can be written; delete the oldest entries above MAX_BYTES."""
    with contextlib.suppress(OSError):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            _delete_oldest(path.parent)


def as_bytes(value: Any) -> np.ndarray:
    """Return a value that JSON can express as an array."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _delete_oldest(folder: Path) -> None:
    stats = {path: path.stat() for path in folder.iterdir()}
    size = sum(stat.st_size for stat in stats.values())
    for path in sorted(stats, key=lambda path: stats[path].st_mtime_ns):
        if size <= MAX_BYTES:
            return
        path.unlink(missing_ok=True)
        size -= stats[path].st_size
