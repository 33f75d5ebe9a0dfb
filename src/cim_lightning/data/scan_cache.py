"""Lists of the files in large folders, cached on disk until a folder changes."""

import contextlib
import hashlib
import json
import os
import time
import zipfile
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cim_lightning.atomic import replacing
from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.folder_walk import FolderWalk

RULES = 1  # version of the rules of FolderWalk and of the content of the files
MIN_SECONDS = 1.0  # shorter scans are not cached
SETTLED_NS = 2 * 10**9  # a folder that changed later may change again within the resolution of its time
MAX_BYTES = 1 << 30  # of all entries; the least recently used ones are deleted


class CachedScan(NamedTuple):
    """The result of an earlier walk."""

    files: FileIndex
    skipped: Counter[str]
    path: Path  # of the cache entry


def read(root: str, suffixes: Collection[str]) -> CachedScan | None:
    """Return the cached walk of a folder; None if there is none, or if a folder changed since then."""
    path = _entry(root, suffixes)
    if path is None:
        return None
    # Whatever is wrong with an entry, a scan replaces it.
    with contextlib.suppress(OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        with path.open("rb") as file, np.load(file, allow_pickle=False) as entry:
            folders = FileIndex.from_lengths(root, entry["folders"].tobytes(), entry["folder_lengths"])
            stamps = entry["stamps"]
            for i in range(len(folders)):
                if _stamp(folders.path(i)) != (stamps[i, 0], stamps[i, 1]):
                    return None
            files = FileIndex.from_lengths(root, entry["names"].tobytes(), entry["lengths"])
            skipped = Counter(json.loads(entry["skipped"].tobytes()))
        os.utime(path)
        return CachedScan(files, skipped, path)
    return None


def write(walk: FolderWalk, files: FileIndex, seconds: float) -> None:
    """Cache a complete walk, unless it was short, or a change in the folder could go unnoticed.

    Args:
        files: that the walk found.
        seconds: that the walk took, until now.
    """
    path = _entry(walk.root, walk.suffixes)
    stamps = np.array(walk.stamps, np.int64).reshape(-1, 2)
    started = time.time_ns() - seconds * 10**9
    # File systems without inodes or times have zeros.
    settled = stamps.min() > 0 and stamps[:, 1].max() < started - SETTLED_NS
    if path is None or walk.volatile or seconds < MIN_SECONDS or not settled:
        return
    names, lengths = files.joined_names()
    folders, folder_lengths = FileIndex.from_names(walk.root, walk.folders).joined_names()
    with contextlib.suppress(OSError):  # a full disk, or a folder without write permission
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                names=np.frombuffer(names, np.uint8),
                lengths=lengths.astype(np.uint16),
                folders=np.frombuffer(folders, np.uint8),
                folder_lengths=folder_lengths.astype(np.uint16),
                stamps=stamps,
                skipped=np.frombuffer(json.dumps(walk.skipped).encode(), np.uint8),
            )
        _delete_oldest(path.parent)


def cache_folder() -> Path | None:
    """Return the folder of the cache, which may not exist; None if the user has no home folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    base = base if os.path.isabs(base) else os.path.expanduser("~/.cache")
    return Path(base, "cim_lightning", "scans") if os.path.isabs(base) else None


def _entry(root: str, suffixes: Collection[str]) -> Path | None:
    key = json.dumps([RULES, os.path.realpath(root), sorted(suffixes)])
    folder = cache_folder()
    return folder and folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"


def _stamp(folder: str) -> tuple[int, int]:
    stat = os.stat(folder)
    return stat.st_ino, stat.st_mtime_ns


def _delete_oldest(folder: Path) -> None:
    stats = {path: path.stat() for path in folder.iterdir()}
    size = sum(stat.st_size for stat in stats.values())
    for path in sorted(stats, key=lambda path: stats[path].st_mtime_ns):
        if size <= MAX_BYTES:
            return
        path.unlink(missing_ok=True)
        size -= stats[path].st_size
