"""Folder layouts of segmentation data sets: ADE20K, Pascal VOC, and any folder with split lists."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cim_lightning.bounds import did_you_mean
from cim_lightning.data.files import SUFFIXES, closest, existing_folder
from cim_lightning.data.segmentation import SegmentationSplits, make_splits
from cim_lightning.errors import ConfigError

VOC_CLASSES = (  # noqa: SIM905
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
).split()


def folder(root: str, train: str, val: str, ignore: Sequence[int]) -> SegmentationSplits:
    """A folder of `images/`, `masks/` (same stems), `splits/*.txt` and `classes.txt`.

    `classes.txt` has one class name per line, in the order of the labels, or with the label in front, as in
    "7 Car".

    Args:
        root: the folder; `~` is expanded.
        train, val: names of lists in `splits/`, with one stem per line.
        ignore: labels that are excluded from loss and metrics; a class among them is dropped.

    Raises:
        ConfigError: a folder, list, image or mask is missing.
    """
    names = _class_names(root, Path(existing_folder(root), "classes.txt"))
    splits = _listed_pairs(root, "splits", train, val, "images", "masks")
    return make_splits(root, *splits, names=names, ignore=ignore)


def ade20k(root: str, ignore: Sequence[int]) -> SegmentationSplits:
    """ADE20K as packed for the scene parsing challenge (ADEChallengeData2016): 150 classes, labels 1..150.

    `images/{training,validation}`, `annotations/{training,validation}`; class names from `objectInfo150.txt`
    if it exists. Source: Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017.

    Raises:
        ConfigError: a folder or mask is missing.
    """
    info = Path(existing_folder(root), "objectInfo150.txt")
    lines = info.read_text().splitlines()[1:] if info.is_file() else []
    names = {int(line.split("\t")[0]): line.split("\t")[-1].strip() for line in lines if line.strip()}
    names = names or {label: f"class {label}" for label in range(1, 151)}
    splits = []
    for split in ("training", "validation"):
        images, masks = _stems(root, f"images/{split}"), _stems(root, f"annotations/{split}")
        splits.append(_pairs(root, sorted(images), images, masks))
    return make_splits(root, *splits, names=names, ignore=ignore)


def voc(root: str, train: str, val: str, masks: str, ignore: Sequence[int]) -> SegmentationSplits:
    """Pascal VOC's layout, as in VOCdevkit/VOC2012: 21 classes with the background, 255 on outlines.

    Args:
        root: the folder with `JPEGImages`, `ImageSets/Segmentation` and the masks.
        train, val: names of lists, such as trainval.
        masks: folder of the masks, such as SegmentationClassAug of the augmented set.
        ignore: labels that are excluded from loss and metrics.

    Source: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010.

    Raises:
        ConfigError: a folder, list, image or mask is missing.
    """
    splits = _listed_pairs(root, "ImageSets/Segmentation", train, val, "JPEGImages", masks)
    return make_splits(root, *splits, names=dict(enumerate(VOC_CLASSES)), ignore=ignore)


def _class_names(root: str, path: Path) -> dict[int, str]:
    lines = path.read_text().splitlines() if path.is_file() else []
    names: dict[int, str] = {}
    for i, line in enumerate(filter(None, map(str.strip, lines))):
        label, _, name = line.partition(" ")
        names |= {int(label): name.strip()} if label.isdigit() and name else {i: line}
    if not names:
        raise ConfigError("root", root, "has no class names", hint="write one per line into classes.txt")
    return names


def _stems(root: str, name: str) -> dict[str, str]:
    """Paths of the image files in a folder of `root`: relative to it, without suffix -> relative to root."""
    top = Path(root).expanduser()
    if not (top / name).is_dir():
        found = ", ".join(sorted(entry.name for entry in top.iterdir() if entry.is_dir())) or "nothing"
        raise ConfigError("root", root, f"has no folder {name}", hint=f"found: {found}")
    stems = {}
    for folder_path, _, files in os.walk(top / name, followlinks=True):
        for path in (Path(folder_path, file) for file in files if file.lower().endswith(SUFFIXES)):
            stem = path.relative_to(top / name).with_suffix("").as_posix()
            stems[stem] = path.relative_to(top).as_posix()
    return stems


def _listed_pairs(
    root: str, lists: str, train: str, val: str, images: str, masks: str
) -> list[list[tuple[str, str]]]:
    folder_path = Path(existing_folder(root), lists)
    stems = [_read_list(folder_path, train, "train"), _read_list(folder_path, val, "val")]
    files = _stems(root, images), _stems(root, masks)
    return [_pairs(root, split, *files) for split in stems]


def _read_list(folder_path: Path, name: str, parameter: str) -> list[str]:
    path = folder_path / f"{name}.txt"
    if not path.is_file():
        hint = did_you_mean(name, (file.stem for file in folder_path.glob("*.txt")))
        raise ConfigError(parameter, name, f"{path} does not exist", hint=hint)
    lines = [line.strip() for line in path.read_text().splitlines()]
    stems = [os.path.splitext(line)[0] if line.lower().endswith(SUFFIXES) else line for line in lines if line]
    if not stems:
        raise ConfigError(parameter, name, f"{path} is empty", hint="write one stem per line")
    return stems


def _pairs(
    root: str, stems: Sequence[str], images: Mapping[str, str], masks: Mapping[str, str]
) -> list[tuple[str, str]]:
    for kind, files in (("image", images), ("mask", masks)):
        for stem in stems:
            if stem not in files:
                raise ConfigError("root", root, f"{stem} has no {kind}", hint=closest(stem, files))
    return [(images[stem], masks[stem]) for stem in stems]
