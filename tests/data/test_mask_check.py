"""Masks as users have them: each kind is read right, or refused in one line before a training starts."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from cim_lightning.data import mask_check, segmentation_layouts
from cim_lightning.data.mask_check import check_masks
from cim_lightning.data.segmentation import SegmentationSplits
from cim_lightning.errors import ConfigError

LABELS = np.array([[0, 0, 1], [1, 2, 0]], np.uint8)  # 2 rows, 3 columns


def orientation(turn: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    return exif


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two training images and one for validation, of three classes."""
    for folder in ("images", "masks", "splits"):
        (tmp_path / folder).mkdir()
    for stem in "abc":
        Image.fromarray(np.full((2, 3, 3), 90, np.uint8)).save(tmp_path / "images" / f"{stem}.png")
        Image.fromarray(LABELS).save(tmp_path / "masks" / f"{stem}.png")
    (tmp_path / "splits" / "train.txt").write_text("a\nb\n")
    (tmp_path / "splits" / "val.txt").write_text("c\n")
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\n")
    return tmp_path


def opened(root: Path, ignore: tuple[int, ...] = (255,)) -> SegmentationSplits:
    return segmentation_layouts.folder(str(root), "train", "val", ignore)


def test_a_right_data_set_passes_without_a_message(root, caplog):
    with caplog.at_level(logging.INFO):
        check_masks(opened(root))
    assert not caplog.messages


def gray_rgb(path: Path) -> None:
    Image.fromarray(np.repeat(LABELS[..., None], 3, axis=2)).save(path)


def gray_alpha(path: Path) -> None:
    Image.fromarray(np.dstack([LABELS, LABELS, LABELS, np.full_like(LABELS, 255)])).save(path)


def sixteen_bits(path: Path) -> None:
    Image.fromarray(LABELS.astype(np.uint16)).save(path)


def palette(path: Path) -> None:
    image = Image.fromarray(LABELS)
    image.putpalette([value for i in range(256) for value in (255 - i, i, 7)])
    image.save(path)


def turned(path: Path) -> None:
    """Write a mask on its side, with the orientation that turns it upright."""
    Image.fromarray(np.ascontiguousarray(np.rot90(LABELS))).save(path, exif=orientation(6))


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(
            gray_rgb,
            marks=pytest.mark.user_input(
                "segmentation", "a gray mask with three equal channels", "its labels"
            ),
        ),
        gray_alpha,
        pytest.param(
            sixteen_bits,
            marks=pytest.mark.user_input("segmentation", "a 16-bit mask with labels up to 255", "its labels"),
        ),
        pytest.param(
            palette,
            marks=pytest.mark.user_input("segmentation", "a palette mask, as of Pascal VOC", "its labels"),
        ),
        pytest.param(
            turned,
            marks=pytest.mark.user_input(
                "segmentation", "a mask with its own EXIF orientation", "the mask is turned, as images are"
            ),
        ),
    ],
)
def test_a_mask_of_another_kind_has_the_same_labels(root, write):
    write(root / "masks" / "a.png")
    check_masks(opened(root))
    assert opened(root).train[0][1].tolist() == LABELS.tolist()


def zeros_and_255(root: Path) -> None:
    (root / "classes.txt").write_text("background\nobject\n")
    for stem in "abc":
        Image.fromarray(np.where(LABELS > 0, 255, 0).astype(np.uint8)).save(root / "masks" / f"{stem}.png")


def jpeg(root: Path) -> None:
    (root / "masks" / "a.png").unlink()
    Image.fromarray(LABELS).save(root / "masks" / "a.jpg", quality=100)


def all_ignored(root: Path) -> None:
    for stem in "ab":
        Image.fromarray(np.full_like(LABELS, 255)).save(root / "masks" / f"{stem}.png")


def val_ignored(root: Path) -> None:
    Image.fromarray(np.full_like(LABELS, 255)).save(root / "masks" / "c.png")


def other_size(root: Path) -> None:
    Image.fromarray(LABELS[:, :2]).save(root / "masks" / "b.png")


def turned_image(root: Path) -> None:
    Image.fromarray(np.full((2, 3, 3), 90, np.uint8)).save(root / "images" / "b.png", exif=orientation(6))


def turned_mask(root: Path) -> None:
    Image.fromarray(LABELS).save(root / "masks" / "b.png", exif=orientation(8))


def colors(root: Path) -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 0] = (0, 128, 0)
    Image.fromarray(pixels).save(root / "masks" / "b.png")


def large_labels(root: Path) -> None:
    Image.fromarray(LABELS.astype(np.uint16) + 25600).save(root / "masks" / "b.png")


def floats(root: Path) -> None:
    (root / "masks" / "b.png").unlink()
    Image.fromarray(LABELS.astype(np.float32)).save(root / "masks" / "b.tif")


def missing_class(root: Path) -> None:
    (root / "classes.txt").write_text("sky\nroad\ncar\ntree\nsign\n")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        pytest.param(
            zeros_and_255,
            "has no training pixel of object (label 1); its 2 masks have the values 0, 255, of which 255 is"
            " ignored; list the labels of the masks in classes.txt, such as 255 object, with ignore=[]",
            marks=pytest.mark.user_input(
                "segmentation",
                "masks of 0 and 255 with the classes background and object",
                "one line: no training pixel of object, and the values of the masks",
                source="https://github.com/open-mmlab/mmsegmentation/issues/1609",
            ),
        ),
        pytest.param(
            missing_class,
            "has no training pixel of tree (label 3), sign (label 4); its 2 masks have the values 0, 1, 2;"
            " list the labels of the masks in classes.txt, or try ignore=[3, 4, 255]",
            marks=pytest.mark.user_input(
                "segmentation",
                "a class without a labeled training pixel",
                "one line with the class and the values",
            ),
        ),
        pytest.param(
            jpeg,
            "masks/a.jpg is a JPEG, whose compression changes labels; save masks as PNG",
            marks=pytest.mark.user_input(
                "segmentation",
                "masks in JPEG files",
                "one line: save masks as PNG",
                source="https://github.com/mantasu/glasses-detector/issues/23",
            ),
        ),
        pytest.param(
            all_ignored,
            "its 2 masks have the values 255, of which 255 is ignored;",
            marks=pytest.mark.user_input("segmentation", "training masks of ignored pixels only", "one line"),
        ),
        pytest.param(
            val_ignored,
            "has only ignored labels in its validation masks; check ignore",
            marks=pytest.mark.user_input(
                "segmentation", "validation masks of ignored pixels only", "one line"
            ),
        ),
        pytest.param(
            other_size,
            "masks/b.png is 2x2, but images/b.png is 3x2; resize the mask with nearest-neighbor",
            marks=pytest.mark.user_input("segmentation", "a mask of another size than its image", "one line"),
        ),
        pytest.param(
            turned_image,
            "images/b.png is turned by its EXIF orientation, but masks/b.png is not; turn masks/b.png,"
            " or remove the orientation from images/b.png",
            marks=pytest.mark.user_input(
                "segmentation",
                "an image that EXIF turns, with a mask that was drawn before the turn",
                "one line: turn the mask",
                source="https://github.com/facebookresearch/detectron2/issues/788",
            ),
        ),
        pytest.param(
            turned_mask,
            "masks/b.png is turned by its EXIF orientation, but images/b.png is not; turn images/b.png,"
            " or remove the orientation from masks/b.png",
            marks=pytest.mark.user_input(
                "segmentation", "a mask that EXIF turns, unlike its image", "one line"
            ),
        ),
        pytest.param(
            colors,
            "masks/b.png has mode RGB, but a mask has one class number per pixel; try an 8-bit gray",
            marks=pytest.mark.user_input(
                "segmentation", "a mask of colors", "one line: a palette or gray PNG"
            ),
        ),
        pytest.param(
            large_labels,
            "masks/b.png has the label 25600, which is not a class (0..2); labels are in 0..255",
            marks=pytest.mark.user_input("segmentation", "a 16-bit mask of instances (25600)", "one line"),
        ),
        (floats, "masks/b.tif has mode F, but a mask has one class number per pixel"),
    ],
)
def test_a_mask_that_cannot_be_right_gets_one_line(root: Path, damage: Callable, expected: str):
    damage(root)
    with pytest.raises(ConfigError) as raised:
        check_masks(opened(root))
    line = str(raised.value)
    assert line.startswith(f"root={root}: ")
    assert expected in line
    assert "\n" not in line


def test_zeros_and_255_work_as_the_line_says(root):
    zeros_and_255(root)
    (root / "classes.txt").write_text("0 background\n255 object\n")
    splits = opened(root, ignore=())
    check_masks(splits)
    assert splits.train[0][1].tolist() == (LABELS > 0).astype(int).tolist()


@pytest.mark.user_input(
    "segmentation", "a square image that EXIF turns", "a line: the mask must be drawn on the turned image"
)
def test_a_turn_that_the_sizes_do_not_confirm_is_reported(root, caplog):
    for folder, pixels in (("images", np.zeros((4, 4, 3), np.uint8)), ("masks", np.eye(4, dtype=np.uint8))):
        exif = orientation(6) if folder == "images" else None
        Image.fromarray(pixels).save(root / folder / "b.png", exif=exif)
    with caplog.at_level(logging.WARNING):
        check_masks(opened(root))
    assert caplog.messages == [
        f"{root}: EXIF turns 1 images, such as images/b.png; their masks must be drawn on the turned images"
    ]


def test_a_mask_of_ignored_pixels_among_others_is_reported(root, caplog):
    Image.fromarray(np.full_like(LABELS, 255)).save(root / "masks" / "b.png")
    with caplog.at_level(logging.WARNING):
        check_masks(opened(root))
    assert caplog.messages == [f"{root}: 1 masks have only ignored labels, such as masks/b.png"]


@pytest.mark.parametrize(("rare", "expected"), [(0, 1), (9, 5)])
def test_masks_are_read_until_each_class_is_found(root, monkeypatch, rare, expected):
    """Of ten masks in batches of two, one random mask has the third class."""
    monkeypatch.setattr(mask_check, "MIN_MASKS", 2)
    order = np.random.default_rng(0).permutation(10)
    names = [f"m{i}" for i in range(10)]
    for i, name in enumerate(names):
        Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(root / "images" / f"{name}.png")
        labels = LABELS if i == order[rare] else LABELS % 2
        Image.fromarray(labels).save(root / "masks" / f"{name}.png")
    (root / "splits" / "train.txt").write_text("\n".join(names))
    read = []
    histogram = mask_check._histogram
    monkeypatch.setattr(mask_check, "_histogram", lambda files, i: read.append(files) or histogram(files, i))
    check_masks(opened(root))
    assert len(read) == 2 * expected + 1  # and one mask for validation
