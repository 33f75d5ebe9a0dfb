"""Where data sets keep images and index masks: ADE20K, Pascal VOC, and any folder with split lists."""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cim_lightning.data.files import SUFFIXES
from cim_lightning.data.segmentation import SETTING, SegmentationSplits, splits_of
from cim_lightning.errors import ConfigError

VOC_CLASSES = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]


def folder(root: str, train: str, val: str, ignore: Sequence[int]) -> SegmentationSplits:
    """`images/`, `masks/` (a PNG for an image, of the same stem), `splits/*.txt` and `classes.txt`.

    Args:
        root: the folder of these; `~` is expanded.
        train, val: names of the lists in `splits/`, a stem a line.
        ignore: labels that count for nothing; a class among them is none.

    `classes.txt` names a class a line, in the order of their labels or with the label before, as in "7 Car".

    Raises:
        ConfigError: a folder, list, image or mask is missing.
    """
    where = _root(root)
    names = _class_names(where)
    images, masks = _stems(where, "images"), _stems(where, "masks")
    pairs = (
        _paired(where, _listed(where, f"splits/{name}.txt", setting), images, masks)
        for name, setting in ((train, "train"), (val, "val"))
    )
    return splits_of(where, *pairs, names=names, ignore=ignore)


def ade20k(root: str, ignore: Sequence[int]) -> SegmentationSplits:
    """ADE20K as the scene parsing challenge packs it (ADEChallengeData2016): 150 classes, labels 1..150.

    `images/{training,validation}`, `annotations/{training,validation}`; names from `objectInfo150.txt` where
    it is there. Source: Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017.

    Raises:
        ConfigError: a folder or mask is missing.
    """
    where = _root(root)
    info = where / "objectInfo150.txt"
    lines = info.read_text().splitlines()[1:] if info.is_file() else []
    names = {int(line.split("\t")[0]): line.split("\t")[-1].strip() for line in lines if line.strip()}
    names = names or {label: f"class {label}" for label in range(1, 151)}
    parts = []
    for split in ("training", "validation"):
        images, masks = _stems(where, f"images/{split}"), _stems(where, f"annotations/{split}")
        parts.append(_paired(where, sorted(images), images, masks))
    return splits_of(where, *parts, names=names, ignore=ignore)


def voc(root: str, train: str, val: str, masks: str, ignore: Sequence[int]) -> SegmentationSplits:
    """Pascal VOC's layout, as in VOCdevkit/VOC2012: 21 classes with the background, 255 on outlines.

    Args:
        root: the folder with `JPEGImages`, `ImageSets/Segmentation` and the masks.
        train, val: names of lists, such as trainval.
        masks: folder of the masks, such as SegmentationClassAug of the augmented set.
        ignore: labels that count for nothing.

    Source: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010.

    Raises:
        ConfigError: a folder, list, image or mask is missing.
    """
    where = _root(root)
    images, found = _stems(where, "JPEGImages"), _stems(where, masks)
    parts = []
    for name, setting in ((train, "train"), (val, "val")):
        stems = _listed(where, f"ImageSets/Segmentation/{name}.txt", setting)
        parts.append(_paired(where, stems, images, found))
    return splits_of(where, *parts, names=dict(enumerate(VOC_CLASSES)), ignore=ignore)


def _root(root: str) -> Path:
    where = Path(root).expanduser()
    if where.is_dir():
        return where
    siblings = [entry.name for entry in where.parent.iterdir()] if where.parent.is_dir() else []
    near = where.parent / difflib.get_close_matches(where.name, siblings or ["."], 1, cutoff=0)[0]
    raise ConfigError(f"{SETTING}.root={root}: must be a folder; try {near}")


def _class_names(root: Path) -> dict[int, str]:
    path = root / "classes.txt"
    lines = path.read_text().splitlines() if path.is_file() else []
    names: dict[int, str] = {}
    for i, line in enumerate(filter(None, map(str.strip, lines))):
        label, _, name = line.partition(" ")
        names |= {int(label): name.strip()} if label.isdigit() and name else {i: line}
    if not names:
        raise ConfigError(
            f"{SETTING}.root={root}: holds no classes.txt, which names the classes; "
            "try one with a name a line"
        )
    return names


def _stems(root: Path, name: str) -> dict[str, str]:
    """Of every image file in a folder of `root`: its path in there without suffix -> its path from root."""
    if not (root / name).is_dir():
        here = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        raise ConfigError(
            f"{SETTING}.root={root}: holds no folder {name}; found: {', '.join(here) or 'nothing'}"
        )
    stems = {}
    for folder_path, _, files in os.walk(root / name, followlinks=True):
        for file in files:
            path = Path(folder_path, file)
            if path.suffix.lower() in SUFFIXES:
                stems[path.relative_to(root / name).with_suffix("").as_posix()] = path.relative_to(
                    root
                ).as_posix()
    return stems


def _listed(root: Path, name: str, setting: str) -> list[str]:
    path = root / name
    if not path.is_file():
        there = sorted(file.stem for file in path.parent.glob("*.txt"))
        near = (difflib.get_close_matches(path.stem, there, 1, cutoff=0) or ["none is there"])[0]
        raise ConfigError(f"{SETTING}.{setting}={path.stem}: there is no {path}; try {near}")
    lines = [line.strip() for line in path.read_text().splitlines()]
    stems = [os.path.splitext(line)[0] if line.lower().endswith(SUFFIXES) else line for line in lines if line]
    if not stems:
        raise ConfigError(f"{SETTING}.{setting}={path.stem}: {path} lists no image; try a list of stems")
    return stems


def _paired(
    root: Path, stems: Sequence[str], images: Mapping[str, str], masks: Mapping[str, str]
) -> list[tuple[str, str]]:
    for what, found in (("image", images), ("mask", masks)):
        lacking = next((stem for stem in stems if stem not in found), None)
        if lacking is not None:
            near = difflib.get_close_matches(lacking, list(found), 1, cutoff=0)
            there = found[near[0]] if near else "none is there"
            raise ConfigError(f"{SETTING}.root={root}: {lacking} has no {what}; try {there}")
    return [(images[stem], masks[stem]) for stem in stems]
