"""Globs, several roots, and folders without images."""

import sys
from pathlib import Path

import pytest

from cim_lightning.data.folder import folder
from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.errors import ConfigError
from tests.image_tree import contents, open_folder, save_images


def everything(root: Path, given: object) -> dict[str, str | None]:
    splits = open_folder(given, val="none")
    return contents(splits.train, root)


SITES = (
    "s1/images/cat/0.png",
    "s1/masks/1.png",
    "s2/images/2.png",
    "s2/images/.hidden/3.png",
    "s2/images/n.txt",
)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param(
            "*/images/**/*.png",
            {"s1/images/cat/0.png": "s1", "s2/images/2.png": "s2"},
            marks=pytest.mark.user_input(
                "source",
                "data.root='/data/*/images/**/*.png'",
                "the files that match; classes are the first folders",
            ),
        ),
        pytest.param(
            "*/images",
            {"s1/images/cat/0.png": "s1", "s2/images/2.png": "s2"},
            marks=pytest.mark.user_input(
                "source", "data.root='/data/*/images'", "all images of the folders that match"
            ),
        ),
        ("s2/images/*", {"s2/images/2.png": None}),  # other files are counted
        ("s?/images/[0-9].png", {"s2/images/2.png": None}),
    ],
)
def test_globs(tmp_path, pattern, expected):
    save_images(tmp_path, *SITES)
    assert everything(tmp_path, str(tmp_path / pattern)) == expected


def test_other_files_that_match_a_glob_are_counted(tmp_path):
    save_images(tmp_path, *SITES)
    assert open_folder(str(tmp_path / "s2/images/*"), val="none").summary.endswith("; skipped: 1 .txt")


@pytest.mark.user_input("path", "a folder named `my [pictures]*`", "the folder, not a glob")
def test_a_folder_with_the_name_of_a_glob(tmp_path):
    save_images(tmp_path, "my [pictures]*/a/0.png", "my [pictures]*/b/1.png", "my p/a/2.png")
    found = everything(tmp_path, str(tmp_path / "my [pictures]*"))
    assert found == {"my [pictures]*/a/0.png": "a", "my [pictures]*/b/1.png": "b"}


@pytest.mark.user_input("source", "a glob that matches nothing", "one line")
def test_a_glob_without_a_match(tmp_path):
    with pytest.raises(ConfigError, match=rf"no file or folder; the path exists up to {tmp_path}$"):
        open_folder(str(tmp_path / "nope" / "*.png"))


@pytest.mark.user_input("source", "data.root=[/a,/b]", "the images of both; equal class names are one class")
def test_several_roots(tmp_path):
    save_images(tmp_path, "x/cat/0.png", "x/dog/1.png", "y/cat/2.png", "y/ant/3.png", "z/4.png")
    found = everything(tmp_path, [str(tmp_path / name) for name in "yxz"])
    assert [*found.items()] == [
        ("y/ant/3.png", "ant"),
        ("y/cat/2.png", "cat"),
        ("x/cat/0.png", "cat"),
        ("x/dog/1.png", "dog"),
        ("z/4.png", None),
    ]


def test_the_splits_of_several_roots(tmp_path):
    save_images(
        tmp_path, "x/train/cat/0.png", "x/train/dog/1.png", "x/val/dog/2.png", "y/cat/3.png", "y/ant/4.png"
    )
    splits = open_folder([str(tmp_path / "x"), str(tmp_path / "y")])
    assert contents(splits.train, tmp_path) == {
        "x/train/cat/0.png": "cat",
        "x/train/dog/1.png": "dog",
        "y/ant/4.png": "ant",
        "y/cat/3.png": "cat",
    }
    assert contents(splits.val, tmp_path) == {"x/val/dog/2.png": "dog"}


@pytest.mark.user_input(
    "source", "roots that contain each other", "one line; the images would be there twice"
)
def test_roots_inside_each_other(tmp_path):
    save_images(tmp_path, "a/b/0.png", "c/1.png")
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    for second in ("a", "a/b", "link"):
        with pytest.raises(ConfigError, match=r"^root=\[.*\]: the images of .* are in .*, too; try root=\["):
            open_folder([str(tmp_path / "a"), str(tmp_path / second)])


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        pytest.param(
            "shard-000.tar",
            "found: 1 .tar; try data=webdataset",
            marks=pytest.mark.user_input(
                "source", "data=folder with tar files", "one line names data=webdataset"
            ),
        ),
        pytest.param(
            "data-00000.arrow",
            "found: 1 .arrow; try data=hf",
            marks=pytest.mark.user_input("source", "data=folder with Arrow files", "one line names data=hf"),
        ),
        pytest.param(
            "images.zip",
            "found: 1 .zip; extract the archives first",
            marks=pytest.mark.user_input(
                "source", "data=folder with zip files", "one line says to extract them"
            ),
        ),
        pytest.param(
            "train.h5",
            "found: 1 .h5; write its images to files, or to NPY arrays, first",
            marks=pytest.mark.user_input("source", "data=folder with HDF5 files", "one line says what to do"),
        ),
        pytest.param(
            "scan.npy",
            "found: 1 .npy; try channels=1 bits=16 to read .npy files",
            marks=pytest.mark.user_input(
                "pixels", "a folder of NPY arrays without `data.channels`", "one line names data.channels"
            ),
        ),
    ],
)
def test_folders_of_archives(tmp_path, name, hint):
    (tmp_path / name).write_bytes(b"...")
    with pytest.raises(ConfigError) as caught:
        open_folder(str(tmp_path))
    assert str(caught.value).endswith(hint)


@pytest.mark.user_input(
    "pixels", "a folder of DICOM files without pydicom", "one line: pip install 'cim-lightning[scientific]'"
)
def test_arrays_without_their_package(tmp_path, monkeypatch):
    (tmp_path / "a.dcm").write_bytes(b"...")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ConfigError, match=r"pip install 'cim-lightning\[scientific\]' to read \.dcm files$"):
        folder(str(tmp_path), 0.5, 0, PixelFormat(channels=1, bits=16))


@pytest.mark.user_input(
    "pixels", "a folder of JPEG files, data.channels=4 or 8", "one line: try data.channels=3"
)
@pytest.mark.parametrize("channels", [4, 8])
def test_photographs_are_no_images_of_other_channels(tmp_path, channels):
    save_images(tmp_path, "a.jpg", "b.jpg")
    with pytest.raises(ConfigError, match=r"found: 2 \.jpg; try channels=3 to read \.jpg files$"):
        folder(str(tmp_path), 0.5, 0, PixelFormat(channels=channels))


@pytest.mark.user_input("path", "data.root is an image file", "one line suggests its folder")
def test_a_file_that_is_no_list(tmp_path):
    save_images(tmp_path, "a.png")
    (tmp_path / "a.tar").write_bytes(b"...")
    with pytest.raises(ConfigError, match=r"; try data=webdataset$"):
        open_folder(str(tmp_path / "a.tar"))
    with pytest.raises(ConfigError, match=rf"a\.png: is a file, must be a folder.*; try root={tmp_path}$"):
        open_folder(str(tmp_path / "a.png"))


@pytest.mark.user_input(
    "pixels", "JPEG files and a single image of 4 channels, data.channels=4", "one line: try data.channels=3"
)
def test_the_error_of_a_single_image_names_the_others(tmp_path):
    save_images(tmp_path, "a.jpg", "b.jpg", "c.png")
    with pytest.raises(
        ConfigError, match=r"^root=.*: has one image .*; found: 2 \.jpg; try channels=3 to read"
    ):
        folder(str(tmp_path), 0.5, 0, PixelFormat(channels=4))
