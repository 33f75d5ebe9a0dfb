"""The files that a scan finds, and what it counts. The oracle is os.walk."""

import functools
import io
import logging
import os
import re
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cim_lightning.data import folder_walk, scan_progress
from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.data.scan import scan
from cim_lightning.errors import ConfigError
from tests.lookalikes import dicom_bytes

SUFFIXES = (".jpg", ".png", ".webp")


def write(root: Path, *names: str, content: bytes = b"x") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def image_bytes(path: Path, image_format: str) -> bytes:
    Image.new("RGB", (3, 3)).save(path, image_format)
    content = path.read_bytes()
    path.unlink()
    return content


def found(root: Path) -> list[str]:
    files, _ = scan(str(root), SUFFIXES)
    return [files.name(i) for i in range(len(files))]


def unreadable(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the system refuse to list a folder, also for the superuser."""
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if os.path.normpath(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(folder_walk.os, "scandir", refuse)


def test_names_are_in_the_order_of_sorted_paths(tmp_path):
    names = [
        "a/1.png",
        "a-b/2.png",
        "a.b/3.png",
        "a/z/4.png",
        "a.png",
        "ab.png",
        "a/z.png",
        "a/z-.png",
        "b/c.JPG",
    ]
    names += [
        "ü/猫.png",
        "b/x y\n.png",
        os.fsdecode(b"b/\xff.png"),
        "b/\U0001f600.png",
        "ﬀ/.hid.png",
        "ﬀ/5.png",
    ]
    write(tmp_path, *names)
    walked = [os.path.relpath(Path(f, n), tmp_path) for f, _, files in os.walk(tmp_path) for n in files]
    assert found(tmp_path) == sorted(name for name in walked if ".hid" not in name)


def test_other_files_are_counted_by_suffix(tmp_path):
    write(
        tmp_path, "a.png", "a.TXT", "b/b.txt", "b/README", "x.png/in.png", "name.", "c.tar.gz", "d.png.part"
    )
    files, skipped = scan(str(tmp_path), SUFFIXES)
    assert found(tmp_path) == ["a.png", "x.png/in.png"]
    assert skipped == {".txt": 2, "no suffix": 1, ".": 1, ".gz": 1, ".part": 1}
    assert files.root == str(tmp_path)


@pytest.mark.user_input(
    "folder",
    "`._a.jpg` beside `a.jpg`, `__MACOSX/`: the metadata of macOS",
    "skipped and counted",
    source="https://github.com/Project-MONAI/MONAI/issues/8305",
)
@pytest.mark.user_input(
    "folder",
    "`Thumbs.db` and `.DS_Store`",
    "skipped and counted",
    source="https://github.com/AUTOMATIC1111/stable-diffusion-webui/pull/2201",
)
@pytest.mark.user_input(
    "folder",
    "thumbnails and deleted images of a NAS in `@eaDir/` and `#recycle/`",
    "skipped and counted",
    source="https://github.com/photoview/photoview/issues/430",
)
def test_files_of_systems_are_hidden(tmp_path):
    write(tmp_path, "a.jpg", "._a.jpg", "__MACOSX/b.jpg", "Thumbs.db", ".DS_Store", "@eaDir/a.jpg/THUMB.jpg")
    write(tmp_path, "#recycle/c.jpg")
    write(tmp_path, "DICOMDIR", content=bytes(128) + b"DICM")
    files, skipped = scan(str(tmp_path), SUFFIXES)
    assert [files.name(i) for i in range(len(files))] == ["a.jpg"]
    assert skipped == {"hidden files": 4, "hidden folders": 3}


@pytest.mark.user_input(
    "folder", "images without a suffix, such as `n01440764_18`", "used: the content decides"
)
@pytest.mark.user_input(
    "folder",
    "`photo.jpg_large`, `picture.jpg!d`, `scan.03`: suffixes that are none",
    "used: the content decides",
    source="https://github.com/thumbsup/thumbsup/issues/368",
)
def test_the_content_decides_for_files_without_a_suffix(tmp_path):
    content = image_bytes(tmp_path / "temporary", "JPEG")
    images = ["n01440764_18", "photo.jpg_large", "picture.jpg!d", "scan.03", "trailing."]
    write(tmp_path, *images, content=content)
    write(tmp_path, "README", "report.05", content=b"text")
    write(tmp_path, "image.img", "photo.txt", content=content)  # a suffix is believed
    skipped = scan(str(tmp_path), SUFFIXES).skipped
    assert found(tmp_path) == images
    assert skipped == {"no suffix": 1, ".05": 1, ".img": 1, ".txt": 1}


@pytest.mark.user_input(
    "file",
    "DICOM files named by their numbers, `1.2.840.113619.2.55`",
    "read with `data.channels=1 data.bits=16`",
    source="https://github.com/bastula/dicompyler/issues/5",
)
def test_dicom_files_named_by_their_numbers(tmp_path):
    pixels = PixelFormat(channels=1, bits=16)
    stored = np.full((2, 3), 4095, np.uint16)
    write(tmp_path, "1.2.840.113619.2.55", "IM000001", "MR.IMA", content=dicom_bytes(stored, bits=12))
    files, skipped = scan(str(tmp_path), pixels.suffixes)
    images = [pixels.decode(files.path(i)) for i in range(len(files))]
    assert [image.shape for image in map(np.asarray, images)] == [(2, 3, 1)] * 3
    assert all((np.asarray(image) == 65535).all() for image in images)
    assert not skipped


@pytest.mark.user_input(
    "file", "a GIF without a suffix, where GIF files are not read", "skipped, and counted as .gif"
)
def test_the_content_of_an_excluded_format_is_counted_by_its_suffix(tmp_path):
    write(tmp_path, "picture", content=image_bytes(tmp_path / "temporary", "GIF"))
    assert scan(str(tmp_path), SUFFIXES).skipped == {".gif": 1}


@pytest.mark.user_input("file", "an empty file without a suffix", "skipped and counted")
def test_empty_files_without_a_suffix(tmp_path):
    write(tmp_path, "empty", content=b"")
    assert scan(str(tmp_path), SUFFIXES).skipped == {"empty files": 1}


@pytest.mark.user_input(
    "file", "`.heic` and `.jxl` without their packages", "skipped; the count says what to install"
)
def test_formats_without_their_package(tmp_path, monkeypatch):
    missing = {".heic": "pip install pillow-heif", ".jxl": "pip install pillow-jxl-plugin", ".png": None}
    monkeypatch.setattr(folder_walk, "decodable_suffixes", lambda: missing)
    write(tmp_path, "a.png", "b.HEIC", "c.heic", "d.jxl")
    write(tmp_path, "phone", content=b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert scan(str(tmp_path), SUFFIXES).skipped == {
        ".heic (pip install pillow-heif)": 3,
        ".jxl (pip install pillow-jxl-plugin)": 1,
    }


@pytest.mark.user_input(
    "folder",
    "a sub-folder that cannot be read",
    "skipped and counted",
    source="https://github.com/rescuezilla/rescuezilla/issues/667",
)
def test_an_unreadable_sub_folder(tmp_path, monkeypatch):
    write(tmp_path, "a/1.png", "b/2.png", "c/3.png")
    unreadable(monkeypatch, tmp_path / "b")
    assert scan(str(tmp_path), SUFFIXES).skipped == {"unreadable folders": 1}
    assert found(tmp_path) == ["a/1.png", "c/3.png"]


@pytest.mark.user_input("folder", "`data.root` cannot be read", "one line")
def test_an_unreadable_root_is_an_error(tmp_path, monkeypatch):
    unreadable(monkeypatch, tmp_path)
    with pytest.raises(ConfigError) as caught:
        scan(str(tmp_path), SUFFIXES)
    assert (
        str(caught.value) == f"root={tmp_path}: cannot be read (Permission denied); choose a readable folder"
    )


@pytest.mark.user_input(
    "folder",
    "links to folders and files",
    "followed",
    source="https://github.com/fastai/fastai/pull/2270",
)
@pytest.mark.user_input(
    "folder",
    "a link to a folder above it",
    "skipped and counted: its images are listed already",
    source="https://github.com/karrick/godirwalk/issues/64",
)
@pytest.mark.user_input("folder", "links whose target is gone, or to themselves", "skipped and counted")
def test_links(tmp_path):
    write(tmp_path / "elsewhere", "0.png", "sub/1.png")
    root = write(tmp_path / "root", "a/2.png", "b/3.png")
    links = {
        "c": tmp_path / "elsewhere",
        "a/back": root,
        "b/b": root / "b",
        "d": root / "b",  # not above it: listed twice
        "e.png": root / "b" / "3.png",
        "a/gone.png": root / "nowhere.png",
        "a/gone": root / "nowhere",
        "b/self": root / "b" / "self",
        "elsewhere.txt": root / "a" / "2.png",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    skipped = scan(str(root), SUFFIXES).skipped
    assert found(root) == ["a/2.png", "b/3.png", "c/0.png", "c/sub/1.png", "d/3.png", "e.png"]
    # b/self is seen twice, through d too
    assert skipped == {"broken links": 4, ".txt": 1, "links to a folder above": 3}


def test_a_link_to_a_folder_above_the_root(tmp_path):
    root = write(tmp_path / "root", "a/1.png")
    (root / "a" / "up").symlink_to(tmp_path)
    write(tmp_path, "2.png")
    assert found(root) == ["a/1.png", "a/up/2.png"]


def test_pipes_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.png")
    assert scan(str(tmp_path), SUFFIXES).skipped == {"special files": 2}


@pytest.mark.parametrize("error_after", [0, 1])
def test_an_error_while_a_folder_is_read(tmp_path, monkeypatch, error_after):
    write(tmp_path, "a/1.png", "a/2.png", "b/3.png")
    walk = folder_walk.FolderWalk(str(tmp_path), SUFFIXES)

    def stop(entries: Any) -> Iterator[Any]:
        for i, entry in enumerate(sorted(entries, key=lambda entry: entry.name)):
            if i == error_after and entry.name.endswith(("1.png", "2.png")):
                raise OSError(116, "Stale file handle")
            yield entry

    walk.counted = stop
    assert list(walk.names()) == ["b/3.png"]
    assert walk.skipped == {"unreadable folders": 1}


def test_a_long_scan_is_logged_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(scan_progress, "LOG_AFTER", -1.0)
    write(tmp_path, "a/1.png", "a/2.png", "3.png")
    with caplog.at_level(logging.INFO):
        found(tmp_path)
    assert caplog.messages == [f"scanning {tmp_path}: 1 files so far"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_long_scan_shows_a_bar_on_a_terminal(tmp_path, monkeypatch, caplog):
    terminal = Terminal()
    monkeypatch.setattr(scan_progress, "LOG_AFTER", -1.0)
    monkeypatch.setattr(scan_progress, "BAR_AFTER", 1e-9)
    bar = functools.partial(scan_progress.tqdm, file=terminal, mininterval=0)
    monkeypatch.setattr(scan_progress, "tqdm", bar)
    write(tmp_path, "a/1.png", "a/2.png", "3.png")
    with caplog.at_level(logging.INFO):
        found(tmp_path)
    assert re.search(r"scan: 3 files \[.*files/s\]", terminal.getvalue())
    assert not caplog.messages


@pytest.mark.user_input(
    "folder",
    "a million files",
    "listed in seconds; workers share 50 MB",
    source="https://github.com/pytorch/pytorch/issues/20433",
)
def test_time_and_memory_of_20_000_files(tmp_path):
    for folder in range(20):
        write(tmp_path, f"n{folder:08}/first.JPEG")
        for i in range(1, 1000):
            os.link(tmp_path / f"n{folder:08}/first.JPEG", f"{tmp_path}/n{folder:08}/{folder}_{i:08}.JPEG")
    started = time.process_time()
    files, _ = scan(str(tmp_path), (".jpeg",))
    seconds = time.process_time() - started
    tracemalloc.start()
    again, _ = scan(str(tmp_path), (".jpeg",))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(files) == len(again) == 20_000
    assert seconds < 2  # 0.05 without load
    assert held < 20_000 * 50  # names of 27 bytes
    assert peak < 20_000 * 250
