"""Images and labels in tar archives: which members are used, in which order."""

import io
import os
import tarfile
from collections import Counter

import numpy as np
import pytest

from cim_lightning.data import tar_index
from cim_lightning.data.pixel_format import PixelFormat, WrongFormatError
from cim_lightning.data.tar_index import TarIndex, key_and_field, read_index
from cim_lightning.data.webdataset import webdataset
from cim_lightning.errors import ConfigError
from tests.archives import all_images, open_tars, png, write_tar
from tests.image_tree import open_folder, save_images
from tests.lookalikes import npy_bytes

LONG = "/".join(["a folder with a long name, ünïcödé"] * 6)
NAMES = ["b/0.png", f"{LONG}/1.png", "a/x.y/2.png", "a/3 (1), z.PNG", "a-b/4.png", "a/猫.png", "Z/6.png"]


def index(path) -> TarIndex:
    return read_index(str(path), PixelFormat().suffixes)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./", "/"])
@pytest.mark.user_input("source", "tar archives of a folder", "same images, labels and order as the folder")
@pytest.mark.user_input(
    "source", "a tar archive with ./ before the names, or long names", "the names without ./"
)
def test_archives_of_a_folder_are_the_folder(format, prefix, tmp_path):
    root = save_images(tmp_path / "root", *NAMES)
    content = {name: (root / name).read_bytes() for name in NAMES}
    for i in range(3):  # in another order than the folder
        part = {f"{prefix}{name}": content[name] for name in NAMES[i::3]}
        write_tar(tmp_path / "shards" / f"{2 - i}.tar", part, format)
    for seed in range(3):
        found, expected = open_tars(str(tmp_path / "shards"), 0.4, seed), open_folder(str(root), 0.4, seed)
        for tars, files in zip(found[:2], expected[:2], strict=True):
            assert tars.classes == files.classes
            assert [label for _, label in tars] == [label for _, label in files]
            assert [image.tobytes() for image, _ in tars] == [image.tobytes() for image, _ in files]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.jpg", ("a/b", "jpg")),
        ("b.LEFT.Png", ("b", "left.png")),
        ("x.y/b", ("x.y/b", "")),
        ("cat.0.jpg", ("cat.0", "jpg")),
        ("22.05/version 2.1 final.seg.png", ("22.05/version 2.1 final", "seg.png")),
        ("1.2", ("1", "2")),
    ],
)
def test_the_key_and_the_field_of_a_name(name, expected):
    assert key_and_field(name) == expected


@pytest.mark.user_input(
    "source",
    "WebDataset shards with .cls files of integers",
    "classes in the order of the integers; samples without a label, or with -1, are counted as unlabeled",
)
def test_labels_of_webdataset(tmp_path):
    content = {"0.png": 0, "0.cls": "10", "1.cls": "9\n", "1.png": 1, "2.png": 2, "2.cls": "10", "3.png": 3}
    content |= {"4.png": 4, "4.cls": "-1", "5.png": 5, "5.json": {"label": -1}, "6.png": 6, "6.cls": "-x"}
    path = write_tar(tmp_path / "a.tar", {name: content[name] for name in content if name[0] != "6"})
    assert all_images(str(path)) == [(0, "10"), (1, "9"), (2, "10"), (3, None), (4, None), (5, None)]
    summary = open_tars(str(path), val="none").summary
    assert summary == "6 images in 2 classes (6 for training, 3 of them without a label, none for validation)"
    words = write_tar(tmp_path / "b.tar", content)
    assert all_images(str(words))[6] == (6, "-x")
    assert open_tars(str(path)).train.classes == ["9", "10"]


@pytest.mark.user_input(
    "source", 'WebDataset shards with {"label": ...} in .json files', "integers and texts are labels"
)
def test_labels_in_json(tmp_path, monkeypatch):
    json = [
        {"label": "ü cat"},
        {"label": 7},
        {"label": True},
        {"label": [1]},
        {"caption": ""},
        "[1",
        "3",
        "\udcff",
    ]
    content = {f"{i}.png": i for i in range(9)}
    content |= {
        f"{i}.json": value if isinstance(value, dict) else value.encode("utf-8", "surrogateescape")
        for i, value in enumerate(json)
    }
    content |= {"8.json": {"label": "from json"}, "8.cls": "from cls", "7.cls": b"\xff"}
    expected = ["ü cat", "7", *[None] * 6, "from cls"]
    path = write_tar(tmp_path / "a.tar", content)
    assert all_images(str(path)) == [*enumerate(expected)]
    assert "1 unreadable labels" in open_tars(str(path)).summary
    monkeypatch.setattr(tar_index, "MAX_LABEL_SIZE", 20)  # a larger file is no label
    assert index(path).skipped == {".json": 2, "unreadable labels": 1}


@pytest.mark.user_input(
    "source",
    "a tar archive whose samples are not contiguous",
    "the files of a sample belong together wherever they are",
    source="https://github.com/webdataset/webdataset/issues/140",
)
def test_samples_may_be_interleaved(tmp_path):
    content = {"0.cls": "a", "1.cls": "b", "1.png": 1, "0.png": 0}
    assert all_images(str(write_tar(tmp_path / "a.tar", content))) == [(0, "a"), (1, "b")]


@pytest.mark.user_input(
    "source",
    "several images per WebDataset sample, such as left.png and right.png",
    "one image per sample is used, the others are counted",
    source="https://github.com/webdataset/webdataset/issues/20",
)
def test_one_image_of_a_sample_is_used(tmp_path):
    content = {
        f"{i}.{field}": i + 100 * n for i in range(5) for n, field in enumerate(("b.png", "a.png", "c.d.png"))
    }
    path = write_tar(tmp_path / "a.tar", content | {"0.jpg": 50})
    assert all_images(str(path)) == [(50, None), (101, None), (102, None), (103, None), (104, None)]
    assert "11 further images of a sample" in open_tars(str(path)).summary


@pytest.mark.user_input(
    "source",
    "names with several dots in a tar archive, such as cat.0.jpg",
    "every image is used",
    source="https://github.com/webdataset/webdataset/issues/237",
)
def test_dots_in_names(tmp_path):
    names = [
        "cat.0.jpg",
        "cat.1.jpg",
        "dog.0.jpg",
        "dog.1.jpg",
        *(f"{i}.jpg" for i in range(9)),
        "v 2.0 a.jpg",
    ]
    path = write_tar(
        tmp_path / "a.tar", {name: i for i, name in enumerate(names)} | {"cat.1.cls": "1", "dog.0.cls": "0"}
    )
    order = sorted(names)
    expected = [(names.index(name), {"cat.1.jpg": "1", "dog.0.jpg": "0"}.get(name)) for name in order]
    assert all_images(str(path)) == expected
    words = write_tar(tmp_path / "b.tar", {"a.first.jpg": 1, "a.second.jpg": 2, "b.third.jpg": 3})
    assert all_images(str(words)) == [(1, None), (2, None), (3, None)]
    equal = write_tar(tmp_path / "c.tar", {"a.first.jpg": 1, "a.second.jpg": 2, "b.first.jpg": 3})
    assert len(all_images(str(equal))) == 3  # as many fields as samples


@pytest.mark.user_input(
    "source",
    "the same names in several tar archives",
    "all are used",
    source="https://github.com/webdataset/webdataset/issues/157",
)
def test_equal_names_in_several_archives(tmp_path):
    for i in range(3):
        write_tar(tmp_path / f"{2 - i}.tar", {"0.png": i, "0.cls": str(i), "1.png": 10 + i})
    assert all_images(str(tmp_path)) == [(2, "2"), (1, "1"), (0, "0"), (12, None), (11, None), (10, None)]


@pytest.mark.user_input(
    "source",
    "a tar archive in which a file was replaced with `tar -r`",
    "the last file of a name is used, as by tar",
    source="https://github.com/webdataset/webdataset/issues/286",
)
def test_a_replaced_file(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"0.png": 0, "1.png": 1})
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo("./0.png")
        member.size = len(png(7))
        tar.addfile(member, io.BytesIO(png(7)))
    assert all_images(str(path)) == [(7, None), (1, None)]
    assert "1 replaced by a later file" in open_tars(str(path)).summary


@pytest.mark.user_input(
    "source", "links, sparse, empty and other files in a tar archive", "counted, not fatal"
)
def test_members_that_are_no_images(tmp_path):
    path = write_tar(
        tmp_path / "a.tar",
        {
            **{
                "0.png": 0,
                "1.txt": "a caption",
                "README": "",
                "2.npy": "x",
                "e.png": b"",
                "suffixless": png(5),
            },
            **{
                ".hidden.png": 1,
                "__MACOSX/a.png": 1,
                "a/._b.png": 1,
                ".DS_Store": "x",
                "readme": "some text",
            },
        },
    )
    with tarfile.open(path, "a") as tar:
        for name, kind in (
            ("l.png", tarfile.SYMTYPE),
            ("h.png", tarfile.LNKTYPE),
            ("f.png", tarfile.FIFOTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "0.png"
            tar.addfile(member)
        folder = tarfile.TarInfo("x.png")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        sparse = tarfile.TarInfo("s.png")
        sparse.type, sparse.size = tarfile.GNUTYPE_SPARSE, 512
        tar.addfile(sparse, io.BytesIO(bytes(512)))
    found = index(path)
    assert found.names == ["0.png", "suffixless"]
    reasons = {"links": 2, "devices and pipes": 1, "sparse files": 1, "empty files": 2}
    assert found.skipped == Counter(reasons | {".txt": 1, ".npy": 1, "no suffix": 1})


@pytest.mark.user_input(
    "pixels", "16-bit NPY arrays of 5 channels in a tar archive", "read with data.channels=5"
)
def test_arrays_of_many_channels(tmp_path):
    arrays = [np.full((7, 9, 5), 1000 * i, np.uint16) for i in range(3)]
    path = write_tar(tmp_path / "a.tar", {f"{i}.npy": npy_bytes(array) for i, array in enumerate(arrays)})
    source = webdataset(str(path), 0.5, 0, PixelFormat(5, 16), val="none").train
    for i, array in enumerate(arrays):
        np.testing.assert_array_equal(source[i][0], array)
    wrong = webdataset(str(path), 0.5, 0, PixelFormat(4, 16), val="none").train
    with pytest.raises(WrongFormatError, match=rf"^'{path}/0.npy': has 5 channels, must have 4") as caught:
        wrong[0]
    assert caught.value.channels == 5


def test_a_plugin_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "cim_lightning.data.tar_index.decodable_suffixes", lambda: {".heic": "pip install pillow-heif"}
    )
    path = write_tar(tmp_path / "a.tar", {"0.heic": "x"})
    assert read_index(str(path), [".png"]).skipped == {".heic (pip install pillow-heif)": 1}


@pytest.mark.user_input(
    "source",
    "a truncated tar archive",
    "the complete images are used, with a warning",
    source="https://github.com/webdataset/webdataset/issues/142",
)
def test_an_archive_cut_anywhere(tmp_path):
    whole = write_tar(tmp_path / "whole.tar", {f"{i}.png": i for i in range(3)}).read_bytes()
    found = index(tmp_path / "whole.tar")
    ends = [offset + size for offset, size in zip(found.offsets, found.sizes, strict=True)]
    blocks = -(-(ends[-1]) // 512) * 512  # the end of the last block of a file
    cut = tmp_path / "cut.tar"
    for size in [*range(1, blocks + 512, 100), *ends, *(end - 1 for end in ends), blocks, blocks + 511]:
        cut.write_bytes(whole[:size])
        part = index(cut)
        assert part.names == [f"{i}.png" for i, end in enumerate(ends) if end <= size]
        assert part.damage in (
            ["truncated"] if size >= 512 else ["truncated", "not a tar archive (truncated header)"]
        )
    cut.write_bytes(whole[: blocks + 512])  # with one of two blocks that mark the end
    assert index(cut) == found


def test_the_warning_of_a_truncated_archive(tmp_path, caplog):
    for i in range(3):
        path = write_tar(tmp_path / f"{i}.tar", {f"{n}.png": n for n in range(4)})
    os.truncate(path, 1200)
    assert len(all_images(str(tmp_path))) == 9
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith("1 of 3 archives are damaged; their complete images are used")
    assert f"such as 1 in {path} (truncated)" in line


@pytest.mark.user_input("source", "tar archives joined with `cat`", "the images of all are used")
def test_joined_archives(tmp_path):
    parts = [write_tar(tmp_path / f"{i}" / "a.tar", {f"{i}.png": i}).read_bytes() for i in range(3)]
    joined = tmp_path / "joined.tar"
    joined.write_bytes(b"".join(parts))
    assert all_images(str(joined)) == [(0, None), (1, None), (2, None)]
    joined.write_bytes(parts[0] + b"something else" * 100)
    found = index(joined)
    assert (found.names, found.damage) == (["0.png"], "damaged")


@pytest.mark.parametrize(
    ("head", "name"), [(b"\x1f\x8b", "gzip"), (b"BZh9", "bzip2"), (b"\x28\xb5\x2f\xfd", "zstd")]
)
def test_a_compressed_archive_is_named(head, name, tmp_path):
    (tmp_path / "a.tar").write_bytes(head + bytes(600))
    with pytest.raises(
        ConfigError, match=rf"a\.tar: is compressed with {name}, .*; decompress it first \({name} -d\)$"
    ):
        index(tmp_path / "a.tar")
