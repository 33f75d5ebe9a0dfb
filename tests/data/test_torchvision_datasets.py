"""Tiny data sets in torchvision's layouts, without checksums."""

import pickle
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import cifar, imagenet, stl10

from cim_lightning.data import torchvision_datasets
from cim_lightning.data.pixel_format import RGB8
from cim_lightning.data.torchvision_datasets import LabeledDataset
from cim_lightning.errors import BadImageError, ConfigError


@pytest.fixture(autouse=True)
def _checksums_match(monkeypatch):
    for module in (cifar, stl10, imagenet):
        monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: Path(path).is_file())


def save_batch(file: Path, colors: list[tuple[int, int, int]], key: str, classes: list[int]) -> None:
    """Save a CIFAR batch: rows of 1024 red, 1024 green and 1024 blue values."""
    file.parent.mkdir(exist_ok=True)
    rows = [np.repeat(np.uint8(color), 1024) for color in colors]
    file.write_bytes(pickle.dumps({"data": np.stack(rows), key: classes}))


def color(source, index: int) -> tuple[int, ...]:
    image, _ = source[index]
    RGB8.check(image)
    return tuple(np.asarray(image)[1, 2].tolist())


def test_cifar10(tmp_path):
    home = tmp_path / "cifar-10-batches-py"
    for i in range(1, 6):
        save_batch(home / f"data_batch_{i}", [(i, 20, 30)], "labels", [i])
    save_batch(home / "test_batch", [(1, 2, 3), (4, 5, 6)], "labels", [9, 0])
    names = list("abcdefghij")
    (home / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    train, val, *_ = torchvision_datasets.cifar10(str(tmp_path), download=False)
    assert train.classes == val.classes == names
    assert (len(train), len(val)) == (5, 2)
    assert (train.labels.tolist(), val.labels.tolist()) == ([1, 2, 3, 4, 5], [9, 0])
    assert (color(train, 2), train[2][1]) == ((3, 20, 30), 3)
    assert (color(val, 1), val[0][1]) == ((4, 5, 6), 9)
    assert train[0][0].size == (32, 32)


def test_cifar100(tmp_path):
    home = tmp_path / "cifar-100-python"
    save_batch(home / "train", [(7, 8, 9)], "fine_labels", [99])
    save_batch(home / "test", [(1, 2, 3)], "fine_labels", [42])
    (home / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"class {i}" for i in range(100)]}))
    train, val, *_ = torchvision_datasets.cifar100(str(tmp_path), download=False)
    assert train.classes is not None
    assert train.classes[train[0][1]] == "class 99"
    assert train.labels.tolist() == [99]
    assert (color(val, 0), val[0][1]) == ((1, 2, 3), 42)


def test_stl10_trains_on_labeled_and_unlabeled_images(tmp_path):
    home = tmp_path / "stl10_binary"
    home.mkdir()

    def planes(name: str, *colors: tuple[int, int, int]) -> None:
        np.stack([np.repeat(np.uint8(c), 96 * 96) for c in colors]).tofile(home / name)

    planes("train_X.bin", (1, 2, 3))
    planes("unlabeled_X.bin", (4, 5, 6), (7, 8, 9))
    planes("test_X.bin", (10, 11, 12))
    np.uint8([10]).tofile(home / "train_y.bin")  # in the file, the first class is 1
    np.uint8([1]).tofile(home / "test_y.bin")
    (home / "class_names.txt").write_text("airplane\nbird\n")
    train, val, *_ = torchvision_datasets.stl10(str(tmp_path), download=False)
    assert [(color(train, i), train[i][1]) for i in range(len(train))] == [
        ((1, 2, 3), 9),
        ((4, 5, 6), -1),
        ((7, 8, 9), -1),
    ]
    assert (color(val, 0), val[0][1]) == ((10, 11, 12), 0)
    assert val.classes == ["airplane", "bird"]


def save_photos(root: Path, suffix: str, **images: Image.Image) -> None:
    for split in ("train", "val"):
        for wnid, image in images.items():
            (root / split / wnid).mkdir(parents=True)
            image.save(root / split / wnid / f"0{suffix}", "JPEG", quality=100)


def test_imagenette_has_wordnet_ids_rgb_images_and_our_decoder(tmp_path):
    home = tmp_path / "imagenette2-320"
    save_photos(home, ".jpeg", n01440764=Image.new("L", (8, 8), 50), n03888257=Image.new("L", (8, 8), 90))
    train, val, *_ = torchvision_datasets.imagenette(str(tmp_path), download=False)
    assert train.classes == ["n01440764", "n03888257"]
    assert train.labels.tolist() == [0, 1]
    assert (color(val, 1), val[1][1]) == ((90, 90, 90), 1)
    (home / "train" / "n01440764" / "0.jpeg").write_bytes(b"")
    with pytest.raises(BadImageError, match="empty"):
        train[0]


def test_imagenet_has_wordnet_ids_and_our_decoder(tmp_path, monkeypatch):
    meta = {"n01440764": ("tench", "Tinca tinca"), "n02012849": ("crane",)}
    monkeypatch.setattr(imagenet, "load_meta_file", lambda _: (meta, []))
    (tmp_path / "meta.bin").touch()
    save_photos(tmp_path, ".JPEG", n01440764=Image.new("L", (8, 8), 50), n02012849=Image.new("L", (8, 8), 90))
    train, val, *_ = torchvision_datasets.imagenet(str(tmp_path))
    assert train.classes == ["n01440764", "n02012849"]
    assert train.labels.tolist() == [0, 1]
    assert (color(val, 1), val[1][1]) == ((90, 90, 90), 1)
    (tmp_path / "val" / "n01440764" / "0.JPEG").write_bytes(b"")
    with pytest.raises(BadImageError, match="empty"):
        val[0]


def test_images_become_rgb_and_labels_int():
    class Gray(list):
        classes = ("one", "two")
        targets = (1,)

    image, label = LabeledDataset(Gray([(Image.new("L", (2, 2), 5), np.int64(1))]))[0]
    assert (image.mode, label, type(label)) == ("RGB", 1, int)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10", "imagenette"])
def test_a_missing_data_set_is_not_downloaded_by_default(tmp_path, name):
    with pytest.raises(ConfigError) as caught:
        getattr(torchvision_datasets, name)(str(tmp_path), download=False)
    message = str(caught.value)
    assert message.startswith(f"root={tmp_path}: ")
    assert "set download=true" in message
    assert "\n" not in message


def test_a_download_is_extracted_and_a_failed_one_is_an_error(tmp_path, monkeypatch):
    home = tmp_path / "made" / "cifar-100-python"
    home.parent.mkdir()
    save_batch(home / "train", [(7, 8, 9)], "fine_labels", [0])
    save_batch(home / "test", [(1, 2, 3)], "fine_labels", [0])
    (home / "meta").write_bytes(pickle.dumps({"fine_label_names": ["only"]}))

    def fetch(_url, root, **_options):
        with tarfile.open(tmp_path / "cifar.tar", "w") as archive:
            archive.add(home, "cifar-100-python")
        with tarfile.open(tmp_path / "cifar.tar") as archive:
            archive.extractall(root, filter="data")

    monkeypatch.setattr(cifar, "download_and_extract_archive", fetch)
    assert color(torchvision_datasets.cifar100(str(tmp_path / "new"), download=True).train, 0) == (7, 8, 9)

    def fail(_url, _root, **_options):
        raise OSError("no route\nto host")

    monkeypatch.setattr(cifar, "download_and_extract_archive", fail)
    with pytest.raises(ConfigError, match=r"^root=/nowhere: .*CIFAR100 \(no route to host\).*network"):
        torchvision_datasets.cifar100("/nowhere", download=True)


def test_imagenet_without_its_archives_suggests_the_folder_source(tmp_path):
    with pytest.raises(ConfigError) as caught:
        torchvision_datasets.imagenet(str(tmp_path))
    message = str(caught.value)
    assert "cannot be downloaded" in message
    assert "the folder data set" in message
    assert "\n" not in message


def test_only_one_process_downloads_at_a_time(tmp_path, monkeypatch):
    active = []
    counts = []

    class Downloaded:
        classes, targets = ("a", "b"), (0,)

        def __init__(self, root, **options):
            active.append(self)
            time.sleep(0.05)
            counts.append(len(active))
            active.remove(self)

        def __len__(self):
            return 1

    monkeypatch.setattr(torchvision_datasets, "CIFAR10", Downloaded)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: torchvision_datasets.cifar10(str(tmp_path / "new"), download=True), range(3)))
    assert counts == [1] * 6
