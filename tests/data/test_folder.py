"""The folder source: its files, splits, labels and errors."""

import os
from pathlib import Path

import numpy as np
import pytest

from cim_lightning.data.image_files import ImageFiles
from cim_lightning.errors import BadImageError, ConfigError
from tests.image_tree import open_folder, save_images


def paths(source, root: Path) -> list[str]:
    assert isinstance(source, ImageFiles)
    return [os.path.relpath(source.path(i), root) for i in range(len(source))]


def labels(source) -> list[int]:
    return [source[i][1] for i in range(len(source))]


def all_paths(root: Path) -> list[str]:
    train, val, *_ = open_folder(str(root), 0.5, 0)
    return sorted(paths(train, root) + paths(val, root))


def expect_error(root: Path | str, *parts: str, val_fraction: float = 0.5) -> None:
    with pytest.raises(ConfigError) as caught:
        open_folder(str(root), val_fraction, 0)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_the_first_folder_is_the_class(tmp_path):
    save_images(tmp_path, "cat/0.png", "cat/deep/er/1.png", "ant/2.png", "dog/3.png")
    train, val, *_ = open_folder(str(tmp_path), 0.25, 0)
    assert train.classes == val.classes == ["ant", "cat", "dog"]
    assert len(train) + len(val) == 4
    expected = {"ant/2.png": (2, 0), "cat/0.png": (0, 1), "cat/deep/er/1.png": (1, 1), "dog/3.png": (3, 2)}
    seen = {}
    for source in (train, val):
        for i, name in enumerate(paths(source, tmp_path)):
            image, label = source[i]
            assert image.mode == "RGB"
            seen[name] = (np.asarray(image)[0, 0, 0], label)
    assert seen == expected


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(
            ("a.png", "b.png", "c.png"),
            marks=pytest.mark.user_input(
                "folder",
                "images without sub-folders",
                "pre-training without labels",
                source="https://github.com/pytorch/vision/issues/9050",
            ),
        ),
        ("a.png", "b.png", "cat/c.png", "dog/d.png"),  # mixed
        ("cat/a.png", "cat/b.png", "cat/deep/c.png"),  # a single class
    ],
)
def test_trees_without_labels(tmp_path, names):
    train, val, *_ = open_folder(str(save_images(tmp_path, *names)), 0.3, 0)
    assert train.classes is None
    assert val.classes is None
    assert {*labels(train), *labels(val)} == {-1}


@pytest.mark.user_input(
    "file",
    "suffixes in any case, such as `IMG_1.JPG`",
    "the images are found",
    source="https://github.com/open-edge-platform/anomalib/issues/3058",
)
def test_other_files_hidden_names_and_suffixes_in_any_case(tmp_path):
    images = ["A.PNG", "b.Jpeg", "c.jpg", "d.webp", "e.bmp", "f.gif", "g.tif", "h.TIFF", "x.jpg/inside.png"]
    save_images(tmp_path, *images, ".hidden.png", ".cache/i.png", "._a.png", "notes.txt", "k.png.part")
    assert all_paths(tmp_path) == sorted(images)


def test_the_first_validation_folder_with_images_is_used(tmp_path):
    save_images(tmp_path, "train/0.png", "test/1.png", "validation/2.png")
    (tmp_path / "val").mkdir()
    assert paths(open_folder(str(tmp_path), 0.5, 0).val, tmp_path) == ["validation/2.png"]


@pytest.mark.user_input(
    "folder",
    "`train/` without a folder for validation",
    "5 % of its images are drawn for validation",
    source="https://github.com/shervinmin/DeepCovid/issues/4",
)
def test_train_alone_is_split(tmp_path):
    save_images(tmp_path, "train/a/0.png", "train/b/1.png", "train/b/2.png")
    assert all_paths(tmp_path) == ["train/a/0.png", "train/b/1.png", "train/b/2.png"]
    assert open_folder(str(tmp_path), 0.5, 0).train.classes == ["a", "b"]


def test_the_random_split_depends_on_seed_and_names_only(tmp_path):
    names = [f"{'ab'[i % 2]}/{i}.png" for i in range(40)]
    first = save_images(tmp_path / "first", *names)
    second = save_images(tmp_path / "second", *reversed(names))
    train, val, *_ = open_folder(str(first), 0.2, 3)
    again = open_folder(str(second), 0.2, 3)
    assert 2 < len(val) < 14  # 8 on average
    assert sorted(paths(train, first) + paths(val, first)) == sorted(names)
    assert paths(val, first) == paths(again.val, second)
    assert paths(train, first) == paths(again.train, second)
    assert paths(val, first) != paths(open_folder(str(first), 0.2, 4).val, first)
    for source in (train, val):
        assert labels(source) == ["ab".index(name[0]) for name in paths(source, first)]


@pytest.mark.parametrize(("fraction", "num_val"), [(0.001, 1), (0.999, 2)])
def test_each_split_has_an_image(tmp_path, fraction, num_val):
    save_images(tmp_path, "0.png", "1.png", "2.png")
    train, val, *_ = open_folder(str(tmp_path), fraction, 0)
    assert (len(train), len(val)) == (3 - num_val, num_val)


@pytest.mark.parametrize(("fraction", "suggestion"), [(0.0, "0.1"), (-1.0, "0.1"), (1.0, "0.9")])
def test_an_invalid_fraction_is_an_error(tmp_path, fraction, suggestion):
    save_images(tmp_path, "0.png", "1.png")
    expect_error(
        tmp_path,
        f"val_fraction={fraction}: ",
        "above 0 and below 1",
        f"try val_fraction={suggestion}",
        val_fraction=fraction,
    )


def test_links_are_followed_but_not_in_cycles(tmp_path):
    save_images(tmp_path / "elsewhere", "0.png")
    root = save_images(tmp_path / "root", "a/1.png", "b/2.png")
    (root / "c").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "back").symlink_to(root)
    (root / "b" / "self").symlink_to(root / "b" / "self")
    (root / "a" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "a" / "link.png").symlink_to(root / "b" / "2.png")
    assert all_paths(root) == ["a/1.png", "a/link.png", "b/2.png", "c/0.png"]


def test_names_in_any_script_and_encoding(tmp_path):
    names = ["ü/猫.png", "b/x y\n.png", os.fsdecode(b"b/\xff.png")]
    assert all_paths(save_images(tmp_path, *names)) == sorted(names)


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_images(tmp_path / "images", "0.png", "1.png")
    assert paths(open_folder("~/images", 0.5, 0).train, tmp_path)[0].startswith("images/")


def test_the_error_of_a_bad_file_names_it(tmp_path):
    save_images(tmp_path, "0.png", "1.png")
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "1.png").write_bytes(b"text")
    for source in open_folder(str(tmp_path), 0.5, 0)[:2]:
        with pytest.raises(BadImageError, match=r"/[01]\.png'"):
            source[0]


def test_an_index_out_of_range_is_an_error(tmp_path):
    train, *_ = open_folder(str(save_images(tmp_path, "0.png", "1.png", "2.png")), 0.3, 0)
    for outside in (len(train), -1):
        with pytest.raises(IndexError):
            train[outside]


def test_a_missing_folder_is_an_error_with_a_suggestion(tmp_path):
    save_images(tmp_path, "images/0.png", "other/1.png", "imagse.png")
    expect_error(
        tmp_path / "imagess",
        f"root={tmp_path}/imagess: does not exist",
        f"did you mean {tmp_path}/images?",
    )
    expect_error(tmp_path / "quite" / "different", "does not exist", f"the path exists up to {tmp_path}")
    expect_error(tmp_path / "imagse.png", "imagse.png: is a file", f"try root={tmp_path}")


def test_too_few_images_are_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    expect_error(tmp_path / "empty", f"root={tmp_path}/empty: has no image", "found: nothing", ".webp")
    save_images(tmp_path, "text/a.txt", "text/b.TXT", "one/a.png")
    (tmp_path / "text" / "README").write_text("text")
    expect_error(tmp_path / "text", "has no image", "found: 2 .txt, 1 no suffix")
    expect_error(tmp_path / "one", f"root={tmp_path}/one: has one image", "need two")


def test_an_unreadable_folder_is_an_error(tmp_path, monkeypatch):
    def scandir(path):
        raise PermissionError(13, "Permission denied", path)

    save_images(tmp_path, "0.png", "1.png")
    monkeypatch.setattr(os, "scandir", scandir)
    expect_error(tmp_path, f"root={tmp_path}: ", "cannot be read (Permission denied)")
