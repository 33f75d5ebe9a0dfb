"""Lists of the files in large folders, cached on disk until a folder changes."""

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cim_lightning.data.array_cache import SETTLED_NS, as_bytes, entry_path, read_entry, write_entry
from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.folder_walk import FolderWalk

RULES = 2  # version of the rules of FolderWalk and of the content of the files
MIN_SECONDS = 1.0  # shorter scans are not cached


class CachedScan(NamedTuple):
    """The result of an earlier walk."""

    files: FileIndex
    skipped: Counter[str]
    path: Path  # of the cache entry


def read(root: str, suffixes: Collection[str]) -> CachedScan | None:
    """Return the cached walk of a folder; None if there is none, or if a folder changed since then."""
    path = _entry(root, suffixes)
    entry = read_entry(path)
    if path is None or entry is None:
        return None
    # Whatever is wrong with an entry, a scan replaces it.
    with contextlib.suppress(OSError, ValueError, KeyError):
        folders = FileIndex.from_lengths(root, entry["folders"].tobytes(), entry["folder_lengths"])
        stamps = entry["stamps"]
        for i in range(len(folders)):
            if _stamp(folders.path(i)) != (stamps[i, 0], stamps[i, 1]):
                return None
        files = FileIndex.from_lengths(root, entry["names"].tobytes(), entry["lengths"])
        return CachedScan(files, Counter(json.loads(entry["skipped"].tobytes())), path)
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
    arrays = {
        "names": np.frombuffer(names, np.uint8),
        "lengths": lengths.astype(np.uint16),
        "folders": np.frombuffer(folders, np.uint8),
        "folder_lengths": folder_lengths.astype(np.uint16),
        "stamps": stamps,
        "skipped": as_bytes(walk.skipped),
    }
    write_entry(path, arrays)


def _entry(root: str, suffixes: Collection[str]) -> Path | None:
    return entry_path([RULES, os.path.realpath(root), sorted(suffixes)])


def _stamp(folder: str) -> tuple[int, int]:
    stat = os.stat(folder)
    return stat.st_ino, stat.st_mtime_ns
