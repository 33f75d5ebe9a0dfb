"""Folder layouts of segmentation data sets: ADE20K, Pascal VOC, and any folder with split lists."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cim_lightning.checks import did_you_mean
from cim_lightning.data.files import closest_name, existing_folder
from cim_lightning.data.image_formats import SUFFIXES
from cim_lightning.data.scan import scan
from cim_lightning.data.segmentation import SegmentationSplits, make_splits
from cim_lightning.errors import ConfigError

VOC_CLASSES = (  # noqa: SIM905
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
).split()


def folder(root: str, train: str, val: str, ignore: Sequence[int]) -> SegmentationSplits:
    """A folder of `images/`, `masks/`, `splits/*.txt` and `classes.txt`.

    An image and its mask have the same name up to the suffix. `classes.txt` has one class per line: the names
    of the labels 0, 1, 2, ..., or each label followed by its name, such as "7 Car".

    Args:
        root: the folder; `~` is expanded.
        train, val: names of lists in `splits/`, with one file name per line, with or without suffix.
        ignore: labels that are excluded from loss and metrics; a class among them is dropped.

    Raises:
        ConfigError: a folder, list, image or mask is missing.
    """
    names = _class_names(root, Path(existing_folder(root), "classes.txt"))
    pairs = _pairs_of_lists(root, "splits", train, val, "images", "masks")
    return make_splits(root, pairs, names, ignore)


def ade20k(root: str, ignore: Sequence[int]) -> SegmentationSplits:
    """ADE20K as packed for the scene parsing challenge (ADEChallengeData2016): 150 classes, labels 1..150.

    The folders are `images/{training,validation}` and `annotations/{training,validation}`. The class names
    come from `objectInfo150.txt` if it exists.

    Source: Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017.

    Raises:
        ConfigError: a folder or mask is missing.
    """
    info = Path(existing_folder(root), "objectInfo150.txt")
    lines = info.read_text().splitlines()[1:] if info.is_file() else []
    names = {int(line.split("\t")[0]): line.split("\t")[-1].strip() for line in lines if line.strip()}
    names = names or {label: f"class {label}" for label in range(1, 151)}
    pairs = []
    for split in ("training", "validation"):
        images, masks = _paths_by_stem(root, f"images/{split}"), _paths_by_stem(root, f"annotations/{split}")
        pairs.append(_pairs(root, sorted(images), images, masks))
    return make_splits(root, pairs, names, ignore)


def voc(root: str, train: str, val: str, masks: str, ignore: Sequence[int]) -> SegmentationSplits:
    """Pascal VOC, laid out as VOCdevkit/VOC2012: 21 classes including background, label 255 on outlines.

    Args:
        root: the folder with `JPEGImages`, `ImageSets/Segmentation` and the masks.
        train, val: names of lists in `ImageSets/Segmentation`, such as trainval.
        masks: folder of the masks, such as SegmentationClassAug of the augmented set.
        ignore: labels that are excluded from loss and metrics.

    Source: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010.

    Raises:
        ConfigError: a folder, list, image or mask is missing.
    """
    pairs = _pairs_of_lists(root, "ImageSets/Segmentation", train, val, "JPEGImages", masks)
    return make_splits(root, pairs, dict(enumerate(VOC_CLASSES)), ignore)


def _class_names(root: str, path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for i, line in enumerate(_lines(path) if path.is_file() else ()):
        label, _, name = line.partition(" ")
        names |= {int(label): name.strip()} if label.isdigit() and name else {i: line}
    if not names:
        raise ConfigError("root", root, "has no class names", hint="write one per line into classes.txt")
    return names


def _paths_by_stem(root: str, name: str) -> dict[str, str]:
    """Return the images in the folder `name` of root: path in it without suffix -> path in root."""
    top = Path(root).expanduser()
    if not (top / name).is_dir():
        found = ", ".join(sorted(path.name for path in top.glob("*/"))) or "nothing"
        raise ConfigError("root", root, f"has no folder {name}", hint=f"found: {found}")
    files = scan(str(top / name), SUFFIXES).files
    paths = (files.name(i) for i in range(len(files)))
    return {os.path.splitext(path)[0]: f"{name}/{path}" for path in paths}


def _pairs_of_lists(
    root: str, lists: str, train: str, val: str, images: str, masks: str
) -> list[list[tuple[str, str]]]:
    pairs, top = [], existing_folder(root)
    paths = _paths_by_stem(root, images), _paths_by_stem(root, masks)
    for parameter, name in (("train", train), ("val", val)):
        path = Path(top, lists, f"{name}.txt")
        if not path.is_file():
            hint = did_you_mean(name, (file.stem for file in path.parent.glob("*.txt")))
            raise ConfigError(parameter, name, f"{path} does not exist", hint=hint)
        names = [os.path.splitext(n)[0] if n.lower().endswith(SUFFIXES) else n for n in _lines(path)]
        if not names:
            raise ConfigError(parameter, name, f"{path} is empty", hint="write one file name per line")
        pairs.append(_pairs(root, names, *paths))
    return pairs


def _lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8-sig")  # Windows may write a mark at the start
    return [line for line in map(str.strip, text.splitlines()) if line]


def _pairs(
    root: str, stems: Iterable[str], images: Mapping[str, str], masks: Mapping[str, str]
) -> list[tuple[str, str]]:
    for stem in stems:
        for kind, paths in (("image", images), ("mask", masks)):
            if stem not in paths:
                raise ConfigError("root", root, f"{stem} has no {kind}", hint=closest_name(stem, paths))
    return [(images[stem], masks[stem]) for stem in stems]
