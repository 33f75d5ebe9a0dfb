"""Files that people have among their images: those that are decoded, and the reasons why others are not."""

import functools
import os
from collections import defaultdict
from typing import Any

import pytest
import torch

from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.decode import decode
from cim_lightning.data.folder import folder
from cim_lightning.data.pixel_format import RGB8
from cim_lightning.data.scan import scan
from cim_lightning.errors import BadImageError
from tests.odd_files import BAD, ODD, SKIPPED, write_files, write_skipped

REASONS = [
    pytest.param(
        "empty.jpg",
        "the file is empty",
        marks=pytest.mark.user_input("file", "an empty file", "listed in `bad_files.csv`"),
    ),
    pytest.param(
        "zeros.jpg",
        "not an image, but only zeros",
        marks=pytest.mark.user_input(
            "file", "only zeros, as after a crash of the machine", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "text.jpg",
        "not an image, but text",
        marks=pytest.mark.user_input("file", "text with the name of an image", "listed in `bad_files.csv`"),
    ),
    pytest.param(
        "page.jpg",
        "not an image, but an HTML page",
        marks=pytest.mark.user_input(
            "file", "an error page instead of a download", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "error.png",
        "not an image, but text",
        marks=pytest.mark.user_input(
            "file", "a JSON error instead of a download", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "pointer.png",
        "a Git LFS pointer; run git lfs pull",
        marks=pytest.mark.user_input("file", "a pointer of Git LFS", "listed in `bad_files.csv`"),
    ),
    pytest.param(
        "archive.png",
        "not an image, but a ZIP archive",
        marks=pytest.mark.user_input(
            "file", "a ZIP archive with the name of an image", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "document.jpg",
        "not an image, but a PDF document",
        marks=pytest.mark.user_input(
            "file", "a PDF document with the name of an image", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "drawing.png",
        "not an image, but an SVG drawing",
        marks=pytest.mark.user_input(
            "file", "an SVG drawing with the name of an image", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "video.jpg",
        "not an image, but a video",
        marks=pytest.mark.user_input(
            "file", "a video with the name of an image", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "postscript.jpg",
        "not an image, but a PostScript",
        marks=pytest.mark.user_input(
            "file", "PostScript with the name of an image; no program is run", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "photoshop.jpg",
        "not an image, but a Photoshop file",
        marks=pytest.mark.user_input(
            "file", "a Photoshop file with the name of an image", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "encrypted.jpg",
        "not an image, or its header is damaged",
        marks=pytest.mark.user_input(
            "file", "random bytes, as after encryption", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "start.jpg",
        "not an image, or its header is damaged",
        marks=pytest.mark.user_input("file", "a JPEG of 20 bytes", "listed in `bad_files.csv`"),
    ),
    pytest.param(
        "header.jpg",
        "Truncated File Read",
        marks=pytest.mark.user_input("file", "a JPEG that ends in its header", "listed in `bad_files.csv`"),
    ),
    pytest.param(
        "half.jpg",
        "image file is truncated",
        marks=pytest.mark.user_input("file", "a JPEG that ends in the middle", "listed in `bad_files.csv`"),
    ),
    pytest.param(
        "no_mark.jpg",
        "image file is truncated",
        marks=pytest.mark.user_input(
            "file", "a JPEG without its last two bytes", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "half.png",
        "image file is truncated",
        marks=pytest.mark.user_input("file", "a PNG that ends in the middle", "listed in `bad_files.csv`"),
    ),
    pytest.param(
        "no_end.png",
        "image file is truncated",
        marks=pytest.mark.user_input("file", "a PNG without its last 100 bytes", "listed in `bad_files.csv`"),
    ),
    pytest.param(
        "half.gif",
        "image file is truncated",
        marks=pytest.mark.user_input("file", "a GIF that ends in the middle", "listed in `bad_files.csv`"),
    ),
    pytest.param(
        "half.webp",
        "is damaged",
        marks=pytest.mark.user_input("file", "a WebP that ends in the middle", "listed in `bad_files.csv`"),
    ),
    pytest.param(
        "half.bmp",
        "image file is truncated",
        marks=pytest.mark.user_input("file", "a BMP that ends in the middle", "listed in `bad_files.csv`"),
    ),
    pytest.param(
        "half.tif",
        "is damaged",
        marks=pytest.mark.user_input("file", "a TIFF that ends in the middle", "listed in `bad_files.csv`"),
    ),
    pytest.param(
        "header.tif",
        "is damaged",
        marks=pytest.mark.user_input("file", "a TIFF of 8 bytes", "listed in `bad_files.csv`"),
    ),
    pytest.param(
        "flipped.png",
        "broken data stream",
        marks=pytest.mark.user_input(
            "file", "a PNG with a wrong byte in its pixels", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "crc.png",
        "not an image, or its header is damaged",
        marks=pytest.mark.user_input(
            "file", "a PNG with a wrong checksum of its header", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "no_width.png",
        "not an image, or its header is damaged",
        marks=pytest.mark.user_input("file", "a PNG of 0x10 pixels", "listed in `bad_files.csv`"),
    ),
    pytest.param(
        "no_pixels.png",
        "image file is truncated",
        marks=pytest.mark.user_input("file", "a PNG without pixels", "listed in `bad_files.csv`"),
    ),
    pytest.param(
        "no_header.dib",
        "not an image, or its header is damaged",
        marks=pytest.mark.user_input(
            "file", "a bitmap without the header of its file", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "bomb.png",
        "decompression bomb",
        marks=pytest.mark.user_input(
            "file", "a small PNG that claims 900 million pixels", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "bomb.bmp",
        "decompression bomb",
        marks=pytest.mark.user_input(
            "file", "a small BMP that claims 3.6 billion pixels", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "bomb.gif",
        "decompression bomb",
        marks=pytest.mark.user_input(
            "file", "a small GIF that claims 4.3 billion pixels", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "bands.tif",
        "has 8 channels, must have 3",
        marks=pytest.mark.user_input(
            "file", "a TIFF of 8 bands among photographs", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        "text\nin two lines.jpg",
        "not an image, but text",
        marks=pytest.mark.user_input(
            "file", "a damaged file with a line break in its name", "listed in `bad_files.csv`"
        ),
    ),
    pytest.param(
        os.fsdecode(b"not utf-8 \xff.jpg"),
        "not an image, but text",
        marks=pytest.mark.user_input(
            "file", "a damaged file whose name is not UTF-8", "listed in `bad_files.csv`"
        ),
    ),
]


@pytest.mark.parametrize(("name", "reason"), REASONS, ids=repr)
def test_a_damaged_file_is_bad_for_a_reason(name, reason, tmp_path):
    write_files(tmp_path, {name: BAD[name]})
    with pytest.raises(BadImageError) as caught:
        RGB8.decode(tmp_path / name)
    assert reason in caught.value.reason
    assert caught.value.name == repr(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_each_kind_of_damage_is_tested():
    assert {case.values[0] for case in REASONS} == {*BAD}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            "tail.jpg", marks=pytest.mark.user_input("file", "a JPEG with other bytes after its end", "read")
        ),
        pytest.param(
            "two pictures.jpg", marks=pytest.mark.user_input("file", "a JPEG with two pictures (MPO)", "read")
        ),
        pytest.param("pixel.png", marks=pytest.mark.user_input("file", "an image of one pixel", "read")),
        pytest.param("line.png", marks=pytest.mark.user_input("file", "an image of 1x5000 pixels", "read")),
        pytest.param(
            "tail.png", marks=pytest.mark.user_input("file", "a PNG with other bytes after its end", "read")
        ),
        pytest.param(
            "old.jfif",
            marks=pytest.mark.user_input("file", "`.jfif`, `.jpe` and `.jif`: names of JPEG", "read"),
        ),
        pytest.param(
            "folder.jpg/inside.jpg",
            marks=pytest.mark.user_input("file", "a folder with the name of an image", "read"),
        ),
        pytest.param(
            "two\nlines.jpg", marks=pytest.mark.user_input("file", "a line break in a name", "read")
        ),
        pytest.param("nan.tif", marks=pytest.mark.user_input("file", "a float TIFF of NaN", "read")),
        pytest.param(
            "n" * 251 + ".jpg", marks=pytest.mark.user_input("file", "a name of 255 characters", "read")
        ),
        pytest.param(
            os.fsdecode(b"latin \xe9.jpg"),
            marks=pytest.mark.user_input("file", "a name that is not UTF-8", "read"),
        ),
        *sorted({*ODD}),
    ],
    ids=repr,
)
def test_an_odd_file_is_found_and_decoded(name, tmp_path):
    write_files(tmp_path, {name: ODD[name]})
    files, skipped = scan(str(tmp_path), RGB8.suffixes)
    assert ([files.name(0)], skipped) == ([name], {})
    assert decode(files.path(0)).mode == "RGB"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            "photo.jpg.part",
            marks=pytest.mark.user_input("file", "an unfinished download", "counted as `.part`"),
        ),
        pytest.param(
            "raw.cr2", marks=pytest.mark.user_input("file", "raw photographs", "counted, as `.cr2`")
        ),
        pytest.param(
            "pipe.jpg",
            marks=pytest.mark.user_input("file", "a named pipe `pipe.jpg`", "counted as a special file"),
        ),
        *SKIPPED,
    ],
)
def test_what_is_no_image_is_counted(name, tmp_path):
    write_skipped(tmp_path)
    files, skipped = scan(str(tmp_path), RGB8.suffixes)
    assert not len(files)
    assert skipped[SKIPPED[name]] == [*SKIPPED.values()].count(SKIPPED[name])


def seen(root: Any) -> tuple[dict[int, list[str]], dict[tuple[int, str], Any]]:
    """The good images of two epochs in their order; the view, label and seed of each."""
    source = functools.partial(folder, val_fraction=0.1, seed=0)
    images = ImageData(
        source, lambda views, seeds: views, batch_size=1, view_size=16, max_bad_share=1.0, root=str(root)
    )
    order, views = defaultdict(list), {}
    for batch, _ in zip(images.train_dataloader(), range(2 * len(images.splits.train)), strict=False):
        epoch, index = int(batch.samples.epochs[0]), int(batch.samples.indices[0])
        if not batch.samples.skipped:
            name = os.path.relpath(images.splits.train.path(index), root)  # pyright: ignore
            order[epoch].append(name)
            views[epoch, name] = batch.views, batch.labels, batch.seeds
    return order, views


@pytest.mark.fault(
    "data",
    "40 kinds of damaged or odd files among the images",
    "the others have the same views, crops and order as without them",
)
def test_good_images_are_seen_as_without_the_others(tmp_path):
    for name in ("alone", "beside"):
        for split in ("train", "val"):
            files = {f"{split}/{kind}/{i} {kind}.png": ODD["tail.png"] for kind in "ab" for i in range(3)}
            write_files(tmp_path / name, files)
        write_files(tmp_path / name / "train" / "a", ODD)
    write_files(tmp_path / "beside" / "train" / "a", BAD)
    write_skipped(tmp_path / "beside" / "train" / "b")
    (alone, first), (beside, second) = seen(tmp_path / "alone"), seen(tmp_path / "beside")
    assert len(BAD) + len(SKIPPED) >= 40
    assert len(alone[0]) == len(alone[1]) == len(ODD) + 6
    assert alone == beside
    assert alone[0] != alone[1]
    for key, expected in first.items():
        for a, b in zip(expected, second[key], strict=True):
            assert torch.equal(a, b)
