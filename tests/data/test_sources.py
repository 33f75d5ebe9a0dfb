"""Trees of small files: what is found, how it is split and labeled, and what a wrong folder is told."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cim_lightning.data.files import ImageFiles
from cim_lightning.data.sources import folder
from cim_lightning.errors import BadImageError, ConfigError


def plant(root: Path, *names: str) -> Path:
    """A 1x1 image at each name; its red value is its place among the names."""
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1, 1), (i, 0, 0)).save(path, "PNG")
    return root


def found(source, root: Path) -> list[str]:
    assert isinstance(source, ImageFiles)
    return [os.path.relpath(source.path(i), root) for i in range(len(source))]


def labels(source) -> list[int]:
    return [source[i][1] for i in range(len(source))]


def everything(root: Path) -> list[str]:
    train, val = folder(str(root), 0.5, 0)
    return sorted(found(train, root) + found(val, root))


def refused(root: Path | str, *parts: str, val_fraction: float = 0.5) -> None:
    with pytest.raises(ConfigError) as caught:
        folder(str(root), val_fraction, 0)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_images_come_with_the_class_of_their_first_folder(tmp_path):
    plant(tmp_path, "cat/0.png", "cat/deep/er/1.png", "ant/2.png", "dog/3.png")
    train, val = folder(str(tmp_path), 0.25, 0)
    assert train.classes == val.classes == ["ant", "cat", "dog"]
    assert (len(train), len(val)) == (3, 1)
    expected = {"ant/2.png": (2, 0), "cat/0.png": (0, 1), "cat/deep/er/1.png": (1, 1), "dog/3.png": (3, 2)}
    seen = {}
    for source in (train, val):
        for i, name in enumerate(found(source, tmp_path)):
            image, label = source[i]
            assert image.mode == "RGB"
            seen[name] = (np.asarray(image)[0, 0, 0], label)
    assert seen == expected


@pytest.mark.parametrize(
    "names",
    [
        ("a.png", "b.png", "c.png"),  # flat
        ("a.png", "cat/b.png", "dog/c.png"),  # mixed
        ("cat/a.png", "cat/b.png", "cat/deep/c.png"),  # a single class
    ],
)
def test_trees_without_labels(tmp_path, names):
    train, val = folder(str(plant(tmp_path, *names)), 0.3, 0)
    assert train.classes is None
    assert val.classes is None
    assert labels(train) + labels(val) == [-1, -1, -1]


def test_other_files_hidden_names_and_suffixes_in_any_case(tmp_path):
    kept = ["A.PNG", "b.Jpeg", "c.jpg", "d.webp", "e.bmp", "f.gif", "g.tif", "h.TIFF", "x.jpg/inside.png"]
    plant(tmp_path, *kept, ".hidden.png", ".cache/i.png", "._a.png", "notes.txt", "jpg", "k.png.part")
    assert everything(tmp_path) == sorted(kept)


@pytest.mark.parametrize("held_out", ["val", "valid", "validation", "test"])
def test_given_splits(tmp_path, held_out):
    plant(
        tmp_path, "train/b/0.png", "train/a/1.png", "train/a/2.png", f"{held_out}/b/3.png", "training/a/4.png"
    )
    train, val = folder(str(tmp_path), 0.5, 0)
    assert found(train, tmp_path) == ["train/a/1.png", "train/a/2.png", "train/b/0.png"]
    assert found(val, tmp_path) == [f"{held_out}/b/3.png"]
    assert train.classes == val.classes == ["a", "b"]
    assert labels(train) == [0, 0, 1]
    assert labels(val) == [1]  # by the classes of train, of which val may hold one alone


def test_the_first_name_for_the_held_out_split_that_holds_images_wins(tmp_path):
    plant(tmp_path, "train/0.png", "test/1.png", "validation/2.png")
    (tmp_path / "val").mkdir()
    assert found(folder(str(tmp_path), 0.5, 0).val, tmp_path) == ["validation/2.png"]


def test_held_out_images_without_folders_have_no_labels(tmp_path):
    plant(tmp_path, "train/a/0.png", "train/b/1.png", "val/2.png", "val/b/3.png")
    train, val = folder(str(tmp_path), 0.5, 0)
    assert train.classes == ["a", "b"]
    assert val.classes is None
    assert labels(val) == [-1, -1]


def test_a_held_out_class_that_train_lacks(tmp_path):
    plant(tmp_path, "train/horse/0.png", "train/zebra/1.png", "val/horse/2.png", "val/zebras/3.png")
    refused(tmp_path, f"data.root='{tmp_path}'", "val/ has the class 'zebras'", "'zebra'")


def test_train_alone_is_split(tmp_path):
    plant(tmp_path, "train/a/0.png", "train/b/1.png", "train/b/2.png")
    assert everything(tmp_path) == ["train/a/0.png", "train/b/1.png", "train/b/2.png"]
    assert folder(str(tmp_path), 0.5, 0).train.classes == ["a", "b"]


def test_a_held_out_folder_alone_is_no_split(tmp_path):
    plant(tmp_path, "other/0.png", "val/1.png")
    assert everything(tmp_path) == ["other/0.png", "val/1.png"]


def test_train_among_other_folders_is_a_class(tmp_path):
    plant(tmp_path, "bus/0.png", "train/1.png", "tram/2.png")
    assert folder(str(tmp_path), 0.5, 0).train.classes == ["bus", "train", "tram"]


def test_the_drawn_split_depends_on_seed_and_names_only(tmp_path):
    names = [f"{'ab'[i % 2]}/{i}.png" for i in range(40)]
    one, two = plant(tmp_path / "one", *names), plant(tmp_path / "two", *reversed(names))
    train, val = folder(str(one), 0.2, 3)
    again = folder(str(two), 0.2, 3)
    assert len(val) == 8
    assert sorted(found(train, one) + found(val, one)) == sorted(names)
    assert found(val, one) == found(again.val, two)
    assert found(train, one) == found(again.train, two)
    assert found(val, one) != found(folder(str(one), 0.2, 4).val, one)
    for source in (train, val):
        assert labels(source) == ["ab".index(name[0]) for name in found(source, one)]


@pytest.mark.parametrize(("fraction", "held_out"), [(0.001, 1), (0.999, 2), (0.5, 2), (0.4, 1)])
def test_each_split_has_an_image(tmp_path, fraction, held_out):
    plant(tmp_path, "0.png", "1.png", "2.png")
    train, val = folder(str(tmp_path), fraction, 0)
    assert (len(train), len(val)) == (3 - held_out, held_out)


@pytest.mark.parametrize(("fraction", "nearest"), [(0.0, "0.01"), (-1.0, "0.01"), (1.0, "0.99")])
def test_a_fraction_that_is_none(tmp_path, fraction, nearest):
    plant(tmp_path, "0.png", "1.png")
    refused(
        tmp_path, f"data.source.val_fraction={fraction}", "between 0 and 1", nearest, val_fraction=fraction
    )


def test_links_are_followed_but_not_in_circles(tmp_path):
    plant(tmp_path / "elsewhere", "0.png")
    root = plant(tmp_path / "root", "a/1.png", "b/2.png")
    (root / "c").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "back").symlink_to(root)
    (root / "b" / "self").symlink_to(root / "b" / "self")
    (root / "a" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "a" / "link.png").symlink_to(root / "b" / "2.png")
    assert everything(root) == ["a/1.png", "a/link.png", "b/2.png", "c/0.png"]


def test_names_of_any_script_and_of_none(tmp_path):
    names = ["ü/猫.png", "b/x y\n.png", os.fsdecode(b"b/\xff.png")]
    assert everything(plant(tmp_path, *names)) == sorted(names)


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    plant(tmp_path / "images", "0.png", "1.png")
    assert found(folder("~/images", 0.5, 0).train, tmp_path)[0].startswith("images/")


def test_a_bad_file_is_named(tmp_path):
    plant(tmp_path, "0.png", "1.png")
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "1.png").write_bytes(b"text")
    for source in folder(str(tmp_path), 0.5, 0):
        with pytest.raises(BadImageError, match=r"/[01]\.png'"):
            source[0]


def test_iterating_ends(tmp_path):
    train, _ = folder(str(plant(tmp_path, "0.png", "1.png", "2.png")), 0.3, 0)
    for outside in (len(train), -1):
        with pytest.raises(IndexError):
            train[outside]


def test_wrong_folders_are_told_the_nearest(tmp_path):
    plant(tmp_path, "images/0.png", "other/1.png", "imagse.png")
    refused(
        tmp_path / "imagess",
        f"data.root='{tmp_path}/imagess' does not exist",
        f"nearest is '{tmp_path}/images'",
    )
    refused(tmp_path / "quite" / "different", "does not exist", f"nearest is '{tmp_path}'")
    refused(tmp_path / "imagse.png", "imagse.png' is a file", f"nearest is '{tmp_path}'")


def test_folders_without_enough_images(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", f"data.root='{tmp_path}/empty' holds no image", "found: nothing", ".webp")
    plant(tmp_path, "text/a.txt", "text/b.TXT", "text/README", "one/a.png")
    refused(tmp_path / "text", "holds no image", "found: 2 .txt, 1 no suffix")
    refused(tmp_path / "one", f"data.root='{tmp_path}/one' holds one image", "takes two")


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    def scandir(path):
        raise PermissionError(13, "Permission denied", path)

    plant(tmp_path, "0.png", "1.png")
    monkeypatch.setattr(os, "scandir", scandir)
    refused(tmp_path, f"data.root='{tmp_path}'", "cannot be read (Permission denied)")
