"""Images with masks: a small example of each layout, and the errors."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cim_lightning.data import segmentation_layouts
from cim_lightning.data.segmentation import IGNORE_INDEX, make_splits
from cim_lightning.errors import ConfigError

CAMVID = Path.home() / ".cache" / "cim-data" / "camvid"
LABELS = np.array([[0, 1, 2], [9, 1, 0]], np.uint8)  # 2 rows, 3 columns


def write(path: Path, pixels: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette([value for i in range(256) for value in (255 - i, i, 7)])
    image.save(path)


def photo(shade: int, shape: tuple[int, int] = (2, 3)) -> np.ndarray:
    return np.full((*shape, 3), shade, np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """a and b are for training, c is for validation; label 9 is ignored."""
    for i, stem in enumerate("abc"):
        write(tmp_path / "images" / f"{stem}.png", photo(10 * i))
        write(tmp_path / "masks" / f"{stem}.png", LABELS, palette=stem == "b")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train.txt").write_text("b\na.png\n")
    (tmp_path / "splits" / "val.txt").write_text("c\n")
    (tmp_path / "classes.txt").write_text("0 Sky\n1 Road works\n2 Car\n9 Unlabeled\n")
    return tmp_path


def open_folder(
    root: Path, train: str = "train", ignore: tuple[int, ...] = (9,)
) -> segmentation_layouts.SegmentationSplits:
    return segmentation_layouts.folder(str(root), train, "val", ignore)


@pytest.mark.user_input(
    "segmentation",
    "lists and `classes.txt` of Windows, with a byte order mark and CRLF",
    "the mark is ignored",
)
def test_lists_with_a_byte_order_mark(root: Path) -> None:
    for name in ("splits/train.txt", "splits/val.txt", "classes.txt"):
        text = (root / name).read_text()
        (root / name).write_text(text, encoding="utf-8-sig", newline="\r\n")
    splits = open_folder(root)
    assert (len(splits.train), splits.classes) == (2, ["Sky", "Road works", "Car"])


def test_a_folder_has_the_images_of_its_lists_in_order_with_gray_and_palette_masks(root: Path) -> None:
    splits = open_folder(root)
    assert (len(splits.train), len(splits.val)) == (2, 1)
    assert splits.classes == ["Sky", "Road works", "Car"]
    assert IGNORE_INDEX == 255
    for pairs, shades in ((splits.train, [10, 0]), (splits.val, [20])):
        for i, shade in enumerate(shades):
            image, mask = pairs[i]
            assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (3, 2), (shade,) * 3)
            assert mask.tolist() == [[0, 1, 2], [255, 1, 0]]


def test_classes_are_renumbered_without_ignored_labels(root: Path) -> None:
    splits = open_folder(root, ignore=(0,))
    assert splits.classes == ["Road works", "Car", "Unlabeled"]
    assert splits.train[0][1].tolist() == [[255, 0, 1], [2, 0, 255]]


def test_names_without_labels_are_numbered_by_their_line(root: Path) -> None:
    (root / "classes.txt").write_text("Sky\nRoad works\n\nCar\n")
    assert open_folder(root).classes == ["Sky", "Road works", "Car"]


def test_ade20k_ignores_label_0(tmp_path: Path) -> None:
    for split, stem in (("training", "x"), ("validation", "y")):
        write(tmp_path / "images" / split / f"{stem}.jpg", photo(9))
        write(tmp_path / "annotations" / split / f"{stem}.png", np.array([[0, 1, 2], [150, 1, 0]], np.uint8))
    splits = segmentation_layouts.ade20k(str(tmp_path), [0])
    assert splits.classes == [f"class {i}" for i in range(1, 151)]
    assert splits.val[0][1].tolist() == [[255, 0, 1], [149, 0, 255]]
    rows = [f"{i}\t0.1\t1\t1\tname {i};n" for i in range(1, 151)]
    (tmp_path / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]))
    assert segmentation_layouts.ade20k(str(tmp_path), [0]).classes[149] == "name 150;n"


def test_voc_has_21_classes_and_ignores_outlines(tmp_path: Path) -> None:
    for stem in "xy":
        write(tmp_path / "JPEGImages" / f"{stem}.jpg", photo(9))
        write(
            tmp_path / "SegmentationClass" / f"{stem}.png",
            np.array([[0, 20, 255], [15, 0, 0]], np.uint8),
            True,
        )
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("x\n")
    (lists / "val.txt").write_text("y\n")
    splits = segmentation_layouts.voc(str(tmp_path), "train", "val", "SegmentationClass", [255])
    assert (len(splits.classes), splits.classes[0], splits.classes[15]) == (21, "background", "person")
    assert splits.val[0][1].tolist() == [[0, 20, 255], [15, 0, 0]]


def broken(root: Path, mistake: str) -> Callable[[], object]:
    """Break a folder in one way, and return the call that fails."""
    if mistake == "size":
        write(root / "masks" / "b.png", LABELS[:, :2])
    elif mistake == "label":
        write(root / "masks" / "b.png", LABELS + 3)
    elif mistake == "mode":
        write(root / "masks" / "b.png", photo(0) + np.uint8([0, 1, 0]))
    elif mistake == "mask file":
        (root / "masks" / "b.png").write_bytes(b"none")
    elif mistake == "image file":
        (root / "images" / "b.png").write_bytes(b"none")
    elif mistake in ("mask", "image"):
        (root / f"{mistake}s" / "b.png").unlink()
    elif mistake == "classes":
        (root / "classes.txt").unlink()
    elif mistake == "folder":
        (root / "masks").rename(root / "labels")
    elif mistake == "list":
        return lambda: open_folder(root, train="trian")
    elif mistake == "root":
        return lambda: open_folder(root.with_name(root.name + "x"))
    elif mistake == "ignore":
        return lambda: open_folder(root, ignore=(0, 1, 2))
    return lambda: open_folder(root).train[0]


@pytest.mark.parametrize(
    ("mistake", "expected"),
    [
        ("size", r"^root=.*: masks/b\.png is 2x2, but images/b\.png is 3x2; resize the mask"),
        (
            "label",
            r"^root=.*: masks/b\.png has the label 3, which is not a class \(0\.\.2\); try ignore=\[3\]",
        ),
        ("mode", r"^root=.*: masks/b\.png has mode RGB, .*try an 8-bit gray or palette PNG"),
        ("mask file", r"^root=.*: masks/b\.png cannot be read \(.*\); replace the file"),
        ("image file", r"^root=.*images/b\.png': not an image.*; replace the file"),
        ("mask", r"^root=.*: b has no mask$"),
        ("image", r"^root=.*: b has no image$"),
        ("classes", r"^root=.*: has no class names; write one per line into classes\.txt"),
        ("folder", r"^root=.*: has no folder masks; found: images, labels, splits"),
        ("list", r"^train=trian: .*splits/trian\.txt does not exist; did you mean train\?"),
        ("root", r"^root=.*x: does not exist; did you mean .*\?"),
        ("ignore", r"^ignore=\[0, 1, 2\]: leaves 1 classes, .*try ignore=\[\]"),
    ],
)
def test_a_wrong_data_set_gets_one_line(root: Path, mistake: str, expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        broken(root, mistake)()
    line = str(raised.value)
    assert re.search(expected, line), line
    assert "\n" not in line


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not installed")
def test_camvid_opens() -> None:
    splits = segmentation_layouts.folder(str(CAMVID), "train", "test", [11])
    assert (len(splits.train), len(splits.val), len(splits.classes)) == (367, 233, 11)
    image, mask = splits.val[0]
    assert (image.size, mask.shape) == ((480, 360), (360, 480))
    assert set(np.unique(mask)) <= {*range(11), 255}


@pytest.mark.parametrize(
    ("names", "ignore", "message"),
    [
        ({0: "a", 1: "b"}, [300], r"^ignore=\[300\]: label 300 must"),
        ({0: "a", 256: "b"}, [], "^root=.*label 256 must"),
    ],
)
def test_labels_of_more_than_8_bits_are_refused(names, ignore, message) -> None:
    with pytest.raises(ConfigError, match=message):
        make_splits("/x", [[], []], names, ignore)
