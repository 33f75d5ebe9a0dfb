"""`cim-prepare archives`: what is stored, in which order, after a kill, and what training reads from it."""

import io
import os
import signal
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cim_lightning.cropping.resize import ResizeCropper
from cim_lightning.data import archive_index
from cim_lightning.data.archive_folder import ArchiveFolder
from cim_lightning.data.archiving import Archiver
from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.folder import folder
from cim_lightning.data.image_keys import image_keys
from cim_lightning.data.loader import Loading
from cim_lightning.data.pixel_format import RGB8, PixelFormat
from cim_lightning.data.source import Splits
from cim_lightning.data.stored_image import StoredFormat, file_name
from cim_lightning.data.torchvision_datasets import LabeledDataset
from cim_lightning.data.webdataset import webdataset

EPOCHS = 2
SIDES = {"cat/1.png": (9, 20), "cat/2.jpg": (31, 17), "dog/3.jpg": (60, 40), "dog/4.JPEG": (40, 80)}


def pixels_of(source: Any) -> list[np.ndarray]:
    return [np.asarray(source[i][0]) for i in range(len(source))]


@pytest.fixture
def photos_of_any_size(tmp_path: Path) -> Path:
    """Photographs in class folders of two splits, with short sides of 9 to 40 pixels."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name, (width, height) in SIDES.items():
            path = tmp_path / "images" / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            blocks = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
            blocks.resize((width, height)).save(path, quality=95)
    return tmp_path / "images"


def open_folder(root: Path, **settings: Any) -> Splits:
    return folder(str(root), 0.3, 0, RGB8, **settings)


def open_archives(root: Path, **settings: Any) -> Splits:
    return webdataset(str(root), 0.3, 0, RGB8, **settings)


def write(
    splits: Splits,
    path: Path,
    images_per_archive: int = 3,
    advance: Callable[[int], object] = lambda images: None,
    **settings: Any,
) -> Path:
    """Write archives in this process."""
    target = ArchiveFolder(path, {"settings": repr(settings)})
    target.open()
    stored = StoredFormat(RGB8, **settings)
    Archiver(splits, target, stored, images_per_archive, Loading(0, None)).write(advance)
    return path


def same_order(found: Any, expected: Any) -> bool:
    """Return whether keys, labels and classes are equal, which decide about the order, views and crops."""
    labels = [source.labels.tolist() for source in (found, expected)]
    return (
        np.array_equal(image_keys(found), image_keys(expected))
        and labels[0] == labels[1]
        and found.classes == expected.classes
    )


def test_small_images_are_copied_and_large_ones_reduced(photos_of_any_size, tmp_path):
    splits = open_folder(photos_of_any_size)
    found = open_archives(write(splits, tmp_path / "out", short_side=20, quality=90))
    for stored, original in zip(found[:2], splits[:2], strict=True):
        assert same_order(stored, original)
        images = pixels_of(stored)
        for i in (0, 1):
            assert np.array_equal(images[i], np.asarray(original[i][0]))
            assert stored.content(i) == Path(original.path(i)).read_bytes()
        for i, size in ((2, (30, 20)), (3, (20, 40))):
            file = io.BytesIO()
            reduced = Image.open(original.path(i)).resize(size, Image.Resampling.BICUBIC)
            reduced.save(file, "JPEG", quality=90, subsampling=0)
            assert stored.content(i) == file.getvalue()
            assert np.array_equal(images[i], np.asarray(Image.open(file)))
    assert found.summary == "8 images in 2 classes (4 for training, 4 for validation)"
    assert not found.drawn


@pytest.mark.parametrize("channels", [1, 3])
def test_raw_archives_hold_the_pixels(channels, photos_of_any_size, tmp_path):
    pixels = PixelFormat(channels)
    splits = folder(str(photos_of_any_size), 0.3, 0, pixels)
    target = ArchiveFolder(tmp_path / "out", {})
    target.open()
    Archiver(splits, target, StoredFormat(pixels, None, "raw"), 3, Loading(0, None)).write()
    found = webdataset(str(tmp_path / "out"), 0.3, 0, pixels)
    for stored, original in zip(found[:2], splits[:2], strict=True):
        assert all(map(np.array_equal, pixels_of(stored), pixels_of(original)))
        assert all(stored.content(i).startswith(b"\x93NUMPY") for i in range(4))


def test_random_splits_and_order_are_those_of_the_folder(photos_of_any_size, tmp_path):
    splits = open_folder(photos_of_any_size / "train")
    root = write(splits, tmp_path / "out", images_per_archive=1)
    found = webdataset(str(root), 0.9, 1, RGB8)  # another split, if there were no index
    assert found.drawn
    assert splits.drawn
    assert all(map(same_order, found[:2], splits[:2]))
    without = open_archives(root, val="none")
    assert (len(without.train), len(without.val)) == (len(splits.train), 0)
    assert f"skipped: {len(splits.val)} for validation" in without.summary
    assert len(open_archives(root, train="train-*.tar", val="val-*.tar").train) == len(splits.train)


def test_without_the_index_they_are_archives_of_webdataset(photos_of_any_size, tmp_path):
    expected = open_folder(photos_of_any_size)
    root = write(expected, tmp_path / "out", short_side=20)
    (root / archive_index.FILE).unlink()
    found = open_archives(root)
    assert [found.train.files.name(i) for i in range(4)] == sorted(SIDES)
    assert all(map(same_order, found[:2], expected[:2]))


def test_labels_of_a_list_are_stored(photos_of_any_size, tmp_path):
    rows = [("cat/1.png", "b"), ("cat/2.jpg", "cat"), ("dog/3.jpg", "-1"), ("dog/4.JPEG", "b")]
    table = photos_of_any_size / "train" / "list.csv"
    table.write_text("".join(f"{name},{label}\n" for name, label in [("path", "label"), *rows]))
    expected = open_folder(table, val="none")
    root = write(expected, tmp_path / "out", short_side=20)
    found = open_archives(root)
    assert same_order(found.train, expected.train)
    (root / archive_index.FILE).unlink()
    plain = open_archives(root, val="none").train
    assert (plain.classes, plain.labels.tolist()) == (["b", "cat"], [0, 1, -1, 0])


def test_names_are_those_of_webdataset_samples():
    assert file_name("cat/1.JPEG", ".jpg") == "cat/1.JPEG"
    assert file_name("cat/1.png", ".jpg") == "cat/1_png.jpg"
    assert file_name("cat.v1/photo.left.jpg", ".jpg") == "cat.v1/photo_left.jpg"
    assert file_name("/cat/../dog/7", ".npy") == "dog/7.npy"
    assert file_name("cat/1.png", ".npy") == "cat/1_png.npy"


class Squares:
    """A data set of torchvision: images without names."""

    classes = ("dark", "light")
    targets = (1, 0, 1, 0, 1)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        pixels = np.random.default_rng(index).integers(0, 256, (7, 5, 3), np.uint8)
        return Image.fromarray(pixels), self.targets[index]

    def __len__(self) -> int:
        return len(self.targets)


def test_images_without_files_are_stored_without_loss(tmp_path):
    source = LabeledDataset(Squares())
    root = write(Splits(source, source), tmp_path / "out")
    found = open_archives(root).val
    assert same_order(found, source)
    assert all(map(np.array_equal, pixels_of(found), pixels_of(source)))
    assert found.path(1) == f"{root}/val-00000.tar/dark/00000001.png"


def test_batches_are_those_of_the_folder(photos, tmp_path):
    """Views, labels and seeds of two epochs and of the validation, with workers and without."""
    archives = write(open_folder(photos), tmp_path / "out", images_per_archive=20)

    def batches(source: Any, root: Path, num_workers: int = 0) -> list[Any]:
        source = partial(source, root=str(root), val_fraction=0.3, seed=0)
        settings = {"batch_size": 8, "num_workers": num_workers, "view_size": 32, "seed": 5}
        data = ImageData(source, ResizeCropper(32), **settings)
        return [*islice(data.train_dataloader(), EPOCHS * 5), *data.val_dataloader()]

    expected = batches(folder, photos)
    assert len(expected) == EPOCHS * 5 + 2
    for num_workers in (0, 1):
        for ours, theirs in zip(batches(webdataset, archives, num_workers), expected, strict=True):
            assert ours.views.equal(theirs.views)
            assert ours.labels.equal(theirs.labels)
            assert ours.seeds.equal(theirs.seeds)


def killed_at(image: int, work: Callable[[Callable[[int], object]], object]) -> None:
    """Run some work in a forked process that kills itself after some images."""
    if not (child := os.fork()):
        done = 0

        def advance(images: int) -> None:
            nonlocal done
            done += images
            if done >= image:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            work(advance)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def content(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}


@pytest.mark.fault(
    "process", when="`cim-prepare archives` is killed", outcome="the same command continues; equal archives"
)
def test_a_killed_command_continues(photos, tmp_path):
    splits = open_folder(photos)
    write(splits, tmp_path / "straight", images_per_archive=16, short_side=16)
    inodes = {}
    for image in (8, 17, 20, 12):  # in the first archive, the second, the third and that for validation
        killed_at(
            image,
            lambda advance: write(
                splits, tmp_path / "out", images_per_archive=16, advance=advance, short_side=16
            ),
        )
        now = {path.name: path.stat().st_ino for path in (tmp_path / "out").glob("*.tar")}
        assert inodes.items() <= now.items()  # finished archives stay
        inodes = now
    assert sorted(inodes) == ["train-00000.tar", "train-00001.tar", "train-00002.tar"]
    write(splits, tmp_path / "out", images_per_archive=16, short_side=16)
    assert content(tmp_path / "out") == content(tmp_path / "straight")
