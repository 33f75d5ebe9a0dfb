"""`cim-prepare archives`: its checks, messages and faults."""

import csv
import os
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cim_lightning.cli import lock
from cim_lightning.cli.archives import archives
from cim_lightning.data import archive_files
from cim_lightning.data.array_cache import as_bytes
from cim_lightning.data.bad_images import BadImages
from cim_lightning.data.folder import folder
from cim_lightning.data.loader import Loading
from cim_lightning.data.pixel_format import RGB8, PixelFormat
from cim_lightning.data.video.source import video
from cim_lightning.data.webdataset import webdataset
from cim_lightning.errors import ConfigError, RunError


def open_data(root: Path, pixels: PixelFormat = RGB8, **settings: Any) -> Any:
    """Return what the command needs of an ImageData."""
    bad_images = BadImages(0.5)
    return SimpleNamespace(
        splits=folder(str(root), 0.3, 0, pixels),
        source_kwargs={"root": str(root)} | settings,
        pixels=pixels,
        loading=Loading(0, None, bad_images),
        bad_images=bad_images,
        num_workers=0,
    )


def run(data: Any, target: Path, **settings: Any) -> None:
    archives(data, target.parent, str(target), **settings)


def error(data: Any, target: Path, **settings: Any) -> str:
    with pytest.raises((ConfigError, RunError)) as caught:
        run(data, target, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_command_says_what_it_does_and_how_to_train(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    from cim_lightning.cli.main import prepare

    command = ["cim-prepare", "archives", f"data.root={photos}", "task.folder=out", "data.num_workers=0"]
    monkeypatch.setattr("sys.argv", [*command, "output_dir=log"])
    prepare()
    out = capsys.readouterr().out
    assert "52 images in 2 classes (43 for training from train, 9 for validation from val)" in out
    assert "writing 52 images: about " in out
    assert out.splitlines()[-1] == f"cim-pretrain data=webdataset data.root={tmp_path}/out"
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        "archives.json",
        "index.npz",
        "train-00000.tar",
        "val-00000.tar",
    ]
    monkeypatch.setattr("sys.argv", [*command, "output_dir=log"])
    prepare()
    assert "52 of 52 images are in finished archives" in capsys.readouterr().out


@pytest.mark.user_input(
    "source", "a damaged image in `cim-prepare archives`", "left out, and listed in `bad_files.csv`"
)
def test_damaged_images_are_listed_and_left_out(photos, tmp_path, caplog):
    shutil.copytree(photos, tmp_path / "images")
    damaged = tmp_path / "images" / "train" / "a" / "4.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    data = open_data(tmp_path / "images")
    run(data, tmp_path / "out", images_per_archive=20)
    with (tmp_path / "out" / "bad_files.csv").open() as file:
        (_, (name, reason)) = csv.reader(file)
    assert name == str(damaged)
    assert "truncated" in reason
    assert "1 of 52 images could not be decoded" in caplog.text
    found = webdataset(str(tmp_path / "out"), 0.3, 0, RGB8)
    others = [i for i in range(43) if data.splits.train.path(i) != str(damaged)]
    assert np.array_equal(found.train.keys, data.splits.train.keys[others])
    with (tmp_path / "out" / "bad_files.csv").open() as file:
        run(open_data(tmp_path / "images"), tmp_path / "out", images_per_archive=20)
        assert len([*csv.reader(file)]) == 2


def test_too_many_damaged_images_stop_the_command(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "images")
    for path in (tmp_path / "images" / "train" / "b").iterdir():
        path.write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    data = open_data(tmp_path / "images")
    data.bad_images.max_share = 0.01
    assert error(data, tmp_path / "out").startswith("max_bad_share=0.01: ")


@pytest.mark.user_input("source", "`task.folder` with other files", "refused: one line")
def test_folders_of_others_are_refused(photos, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").touch()
    data = open_data(photos)
    assert error(data, tmp_path / "out") == (
        f"folder={tmp_path}/out: has other files, such as thesis.txt; try a new folder"
    )
    for root, inside in ((str(photos), "train/out"), ([str(photos)], "out"), (None, "train/a/out")):
        data.source_kwargs["root"] = root
        assert "is inside the folder of the images" in error(data, photos / inside)
        assert not (photos / inside).exists()


def test_archives_may_be_beside_the_images_of_a_list(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos, tmp_path / "images")
    names = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.png"))
    (tmp_path / "list.txt").write_text("".join(f"{name}\n" for name in names))
    data = open_data(tmp_path / "list.txt", train=".")  # all images of the list, not the working directory
    run(data, tmp_path / "archives")
    found = error(data, tmp_path / "images" / "train" / "a" / "archives")
    assert "is inside the folder of the images" in found


def test_frames_of_videos_are_images_without_names(photos, tmp_path):
    data = open_data(photos)
    data.splits = video(str(photos), 2, 0, 0.3, 0, RGB8)
    run(data, tmp_path / "out")
    found = webdataset(str(tmp_path / "out"), 0.3, 0, RGB8)
    assert np.array_equal(found.train.keys, data.splits.train.keys)
    assert found.train.files.name(0) == "00000000.png"


def test_a_command_that_was_killed_before_its_first_file_continues(photos, tmp_path):
    (tmp_path / "out").mkdir()
    for name in (".lock", ".archives.json.cim-tmp"):
        (tmp_path / "out" / name).touch()
    run(open_data(photos), tmp_path / "out")
    assert not (tmp_path / "out" / ".archives.json.cim-tmp").exists()


def test_archives_of_other_settings_or_images_are_refused(photos, tmp_path):
    run(open_data(photos), tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").glob("[!.]*")}
    found = error(open_data(photos), tmp_path / "out", short_side=128)
    assert found == (
        f"folder={tmp_path}/out: has archives with short_side=256; try short_side=256, or a new folder"
    )
    assert "quality=90" in error(open_data(photos), tmp_path / "out", quality=80)
    assert "format=jpeg" in error(open_data(photos), tmp_path / "out", format="raw")
    assert "has archives of other images" in error(open_data(photos / "train"), tmp_path / "out")
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").glob("[!.]*")}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"short_side": 0}, "short_side=0: must be at least 1; try short_side=1"),
        ({"quality": 101}, "quality=101: must be in 1..100; try quality=100"),
        ({"format": "jpg"}, "format=jpg: must be one of jpeg, raw; did you mean jpeg?"),
        ({"subsampling": "4:4:0"}, "subsampling=4:4:0: must be one of 4:4:4, 4:2:0; did you mean "),
        ({"images_per_archive": 0}, "images_per_archive=0: must be at least 1"),
    ],
)
def test_wrong_settings_are_one_line(settings, expected, photos, tmp_path):
    assert error(open_data(photos), tmp_path / "out", **settings).startswith(expected)
    assert not (tmp_path / "out").exists()


def test_only_raw_archives_have_other_pixels_than_photographs(photos, tmp_path):
    data = open_data(photos, PixelFormat(3, 16))
    line = "format=jpeg: cannot have 3 channels of 16 bits; try format=raw"
    assert error(data, tmp_path / "out") == line
    data = open_data(photos, max_gap=3)
    assert error(data, tmp_path / "out").startswith("max_gap=3: is for pairs of frames")


@pytest.mark.fault(
    "disk", when="the disk is too small for the archives of `cim-prepare archives`", outcome="refused"
)
def test_a_small_disk_is_refused(photos, tmp_path, monkeypatch):
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 0, 10**5))
    line = error(open_data(photos), tmp_path / "out")
    assert "has 100 kB free space, and the archives need about " in line
    assert not (tmp_path / "out").exists()


def test_two_commands_do_not_write_into_one_folder(photos, tmp_path):
    held = lock.acquire(tmp_path / "out")
    assert "another process works there; try another folder" in error(open_data(photos), tmp_path / "out")
    held.release()
    run(open_data(photos), tmp_path / "out")


@pytest.mark.fault(
    "disk", when="the drive returns other bytes than were written", outcome="one line; no archive is made"
)
def test_archives_are_read_back(photos, tmp_path, monkeypatch):
    def flip_bit(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[700] ^= 1
        path.write_bytes(content)

    monkeypatch.setattr(archive_files, "sync", flip_bit)
    line = error(open_data(photos), tmp_path / "out")
    assert line.startswith(f"{tmp_path}/out/train-00000.tar: the content on the disk differs from what was")
    assert not [*(tmp_path / "out").glob("*.tar*")]
    monkeypatch.undo()
    run(open_data(photos), tmp_path / "out")


def write_newer_index(root: Path) -> None:
    """Write an index of a later version, whose other entries are unknown."""
    np.savez(root / "index.npz", about=as_bytes({"version": 2}))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: (root / "val-00000.tar").unlink(), "val-00000.tar is missing; copy it again"),
        (
            lambda root: os.truncate(root / "train-00000.tar", 512),
            "train-00000.tar has 512 bytes instead of ",
        ),
        (lambda root: (root / "index.npz").write_bytes(b"PK"), "index.npz is damaged; run the same cim-prep"),
        (write_newer_index, "index.npz is of version 2, and this program reads version 1; make the archives"),
    ],
)
@pytest.mark.fault("data", when="an archive of an index is missing or cut", outcome="refused: one line")
def test_archives_that_do_not_fit_the_index_are_refused(change, expected, photos, tmp_path):
    run(open_data(photos), tmp_path / "out")
    change(tmp_path / "out")
    with pytest.raises(ConfigError) as caught:
        webdataset(str(tmp_path / "out"), 0.3, 0, RGB8)
    assert str(caught.value).startswith(f"root={tmp_path}/out: {expected}")
    run(open_data(photos), tmp_path / "out")  # as the message says
    assert len(webdataset(str(tmp_path / "out"), 0.3, 0, RGB8).train) == 43
