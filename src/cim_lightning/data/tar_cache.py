"""Lists of the images in tar archives, cached on disk until an archive changes."""

import contextlib
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from cim_lightning.data.array_cache import SETTLED_NS, as_bytes, entry_path, read_entry, write_entry
from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.scan_progress import ScanProgress
from cim_lightning.data.tar_set import Places, TarSet, read_set

log = logging.getLogger(__name__)
RULES = 1  # version of the rules of tar_index and tar_set, and of the content of the files
MIN_SECONDS = 1.0  # what took less is not cached


def cached_set(paths: Sequence[str], folders: Sequence[str], suffixes: Collection[str]) -> TarSet:
    """Return `read_set`, from the cache if all archives have the same size and time as then."""
    started, began = time.time_ns(), time.monotonic()
    stats = [os.stat(path) for path in paths]
    stamps = [[stat.st_ino, stat.st_size, stat.st_mtime_ns] for stat in stats]
    key = [RULES, "tar", [*map(os.path.realpath, paths)], stamps, list(folders), sorted(suffixes)]
    path = entry_path(key)
    if found := _read(path):
        log.info("the archives are unchanged since an earlier scan (%s)", path)
        return found
    with ScanProgress(os.path.commonpath(paths)) as progress:
        found = read_set(paths, folders, suffixes, progress.counted)
    settled = max(stat.st_mtime_ns for stat in stats) < started - SETTLED_NS
    if settled and time.monotonic() - began >= MIN_SECONDS:
        write_entry(path, _arrays(found))
    return found


def _read(path: Any) -> TarSet | None:
    entry = read_entry(path)
    # Whatever is wrong with an entry, a scan replaces it.
    with contextlib.suppress(ValueError, KeyError):
        if entry is not None:
            files = FileIndex.from_lengths("", entry["names"].tobytes(), entry["lengths"])
            places = Places(entry["archives"], entry["offsets"], entry["sizes"])
            labels, skipped, damaged = json.loads(entry["rest"].tobytes())
            return TarSet(files, places, entry["texts"], labels, Counter(skipped), [*map(tuple, damaged)])
    return None


def _arrays(found: TarSet) -> dict[str, np.ndarray]:
    names, lengths = found.files.joined_names()
    return {
        "names": np.frombuffer(names, np.uint8),
        "lengths": lengths.astype(np.uint16),
        **found.places._asdict(),
        "texts": found.texts,
        "rest": as_bytes([found.labels, found.skipped, found.damaged]),
    }
