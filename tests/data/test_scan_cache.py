"""The cache of scans: used only while no folder changed."""

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cim_lightning.data import array_cache, folder_walk, scan_cache
from cim_lightning.data.scan import Scan, scan

SUFFIXES = (".jpg", ".png")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, also for short scans."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(scan_cache, "MIN_SECONDS", 0.0)
    return tmp_path / "cache" / "cim_lightning" / "scans"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder whose sub-folders changed an hour ago."""
    folder = tmp_path / "root"
    for name in ("a/1.png", "a/deep/2.png", "b/3.png", "b/notes.txt", "b/ü.png", os.fsdecode(b"b/\xff.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "empty").mkdir()
    return settle(folder)


def settle(folder: Path, seconds: float = 3600.0) -> Path:
    """Let all folders look as if they had not changed for some time."""
    changed = time.time() - seconds
    for path, _, _ in os.walk(folder, followlinks=True):
        os.utime(path, (changed, changed))
    return folder


def listing(result: Scan) -> tuple[list[str], Counter[str]]:
    return [result.files.path(i) for i in range(len(result.files))], result.skipped


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that were read, in order."""
    folders: list[str] = []
    scandir = os.scandir

    def recording(path: Any) -> Any:
        folders.append(os.path.normpath(path))
        return scandir(path)

    monkeypatch.setattr(folder_walk.os, "scandir", recording)
    return folders


@pytest.mark.user_input("folder", "the same large folder in the next run", "not scanned again")
def test_an_unchanged_folder_is_scanned_once(root, cache, listed, caplog):
    first = scan(str(root), SUFFIXES)
    assert len(listed) == 5
    with caplog.at_level("INFO"):
        second = scan(str(root), SUFFIXES)
    assert len(listed) == 5
    assert listing(second) == listing(first)
    assert first.skipped == {".txt": 1}
    assert second.files.fingerprint == first.files.fingerprint
    (entry,) = cache.iterdir()
    assert caplog.messages == [f"{root} is unchanged since an earlier scan ({entry})"]


def test_the_same_folder_under_another_path_has_one_entry(root, cache, listed):
    scan(str(root), SUFFIXES)
    link = root.with_name("link")
    link.symlink_to(root)
    assert scan(str(link), SUFFIXES).files.path(0) == f"{link}/a/1.png"
    assert len(listed) == 5
    assert len(list(cache.iterdir())) == 1


def test_other_suffixes_are_another_entry(root):
    assert len(scan(str(root), SUFFIXES).files) == 5
    assert len(scan(str(root), (".txt",)).files) == 1
    assert len(scan(str(root), (".png", ".txt")).files) == 6


def add(root: Path) -> None:
    (root / "b" / "new.png").touch()


def remove(root: Path) -> None:
    (root / "a" / "deep" / "2.png").unlink()


def rename(root: Path) -> None:
    (root / "a" / "deep").rename(root / "a" / "deeper")


def fill(root: Path) -> None:
    (root / "empty" / "4.png").touch()


def replace(root: Path) -> None:
    """Put another folder with the same time into the place of a folder."""
    changed = (root / "b").stat().st_mtime_ns
    (root / "b").rename(root.with_name("old"))
    (root / "b").mkdir()
    for folder in (root, root / "b"):
        os.utime(folder, ns=(changed, changed))


@pytest.mark.user_input(
    "folder",
    "images added to a folder between two runs",
    "scanned again",
    source="https://github.com/ultralytics/yolov5/issues/306",
)
@pytest.mark.parametrize("change", [add, remove, rename, fill, replace])
def test_a_changed_folder_is_scanned_again(root, change, monkeypatch):
    before = scan(str(root), SUFFIXES)
    change(root)
    after = scan(str(root), SUFFIXES)
    assert listing(after) != listing(before)
    monkeypatch.setenv("XDG_CACHE_HOME", f"{root}/../other")
    assert listing(after) == listing(scan(str(root), SUFFIXES))


def test_a_change_behind_a_link_is_seen(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (root / "c").symlink_to(tmp_path / "elsewhere")
    settle(root)
    assert len(scan(str(root), SUFFIXES).files) == 5
    (tmp_path / "elsewhere" / "4.png").touch()
    assert len(scan(str(root), SUFFIXES).files) == 6


def test_a_folder_that_has_just_changed_is_not_cached(root, cache):
    """A change within the resolution of the file system's times would go unnoticed."""
    os.utime(root / "a" / "deep")
    scan(str(root), SUFFIXES)
    assert not cache.exists()
    settle(root, 2.5)
    scan(str(root), SUFFIXES)
    assert cache.exists()


def test_times_are_compared_with_the_beginning_of_the_scan(root, cache):
    walk = folder_walk.FolderWalk(str(root), SUFFIXES)
    files = scan_cache.FileIndex.from_names(str(root), walk.names())
    settled = time.time_ns() - walk.stamps[0][1]
    scan_cache.write(walk, files, seconds=settled / 1e9 - 1)  # changed one second before the scan
    assert not cache.exists()
    scan_cache.write(walk, files, seconds=settled / 1e9 - 3)
    assert cache.exists()


@pytest.mark.parametrize("stamp", [(0, 1), (7, 0)])
def test_file_systems_without_inodes_or_times_are_not_cached(root, cache, stamp):
    walk = folder_walk.FolderWalk(str(root), SUFFIXES)
    files = scan_cache.FileIndex.from_names(str(root), walk.names())
    walk.stamps[1] = stamp
    scan_cache.write(walk, files, seconds=9.0)
    assert not cache.exists()


def broken_link(root: Path) -> None:
    (root / "link.png").symlink_to(root / "later.png")


def empty_file(root: Path) -> None:
    (root / "download").touch()


@pytest.mark.parametrize("trap", [broken_link, empty_file])
def test_what_may_become_an_image_without_a_change_of_the_folder_is_not_cached(root, cache, trap):
    trap(root)
    settle(root)
    scan(str(root), SUFFIXES)
    assert not cache.exists()


def test_short_scans_are_not_cached(root, cache, monkeypatch):
    monkeypatch.setattr(scan_cache, "MIN_SECONDS", 60.0)
    scan(str(root), SUFFIXES)
    assert not cache.exists()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4", None])
def test_a_damaged_entry_is_replaced(root, cache, content, listed):
    expected = listing(scan(str(root), SUFFIXES))
    (entry,) = cache.iterdir()
    good = entry.read_bytes()
    entry.write_bytes(good[: len(good) // 2] if content is None else content)
    assert listing(scan(str(root), SUFFIXES)) == expected
    assert len(listed) == 10
    assert entry.read_bytes() == good


def test_an_entry_is_not_a_pickle(root, cache):
    scan(str(root), SUFFIXES)
    (entry,) = cache.iterdir()
    np.savez(entry, folders=np.array([{}], object))
    assert len(scan(str(root), SUFFIXES).files) == 5


@pytest.mark.user_input("path", "a home folder that cannot be written", "no cache, no error")
def test_without_a_place_for_the_cache(root, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file, where no folder can be made")
    assert len(scan(str(root), SUFFIXES).files) == 5
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no home folder
    assert array_cache.cache_folder() is None
    assert len(scan(str(root), SUFFIXES).files) == 5


@pytest.mark.parametrize("cache_home", ["", "relative/path"])
def test_the_cache_is_in_the_home_folder(monkeypatch, cache_home):
    monkeypatch.setenv("XDG_CACHE_HOME", cache_home)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert array_cache.cache_folder() == Path("/home/somebody/.cache/cim_lightning/scans")


def test_the_least_recently_used_entries_are_deleted(root, cache, monkeypatch, listed):
    for suffix in SUFFIXES:
        scan(str(root), (suffix,))
    first, second = sorted(cache.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    os.utime(first, (1, 1))
    os.utime(second, (2, 2))
    scan(str(root), SUFFIXES[:1])  # used again
    monkeypatch.setattr(array_cache, "MAX_BYTES", first.stat().st_size + second.stat().st_size)
    scan(str(root), (".txt",))
    assert first in cache.iterdir()
    assert second not in cache.iterdir()
    assert len(list(cache.iterdir())) == 2


def test_the_data_folder_is_not_written(root):
    def times() -> list[int]:
        return [os.stat(Path(f, n)).st_mtime_ns for f, d, files in os.walk(root) for n in (".", *d, *files)]

    before = times()
    scan(str(root), SUFFIXES)
    scan(str(root), SUFFIXES)
    assert times() == before
