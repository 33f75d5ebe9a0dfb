"""Splits of images in archives: by the names of the archives, or as given by `train` and `val`."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from cim_lightning.checks import did_you_mean
from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.named_splits import NamedSplits, descend
from cim_lightning.data.split_names import find_train, find_val, split_word
from cim_lightning.errors import ConfigError

OTHERS = "other archives"  # folder for archives of neither split


def split_folders(paths: Sequence[str], base: str, given: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a folder such as "train" for each archive, as if its images were in this folder.

    Archives are given for a split, or named for it, as in `val-000.tar`, `imagenet_train_12.tar` and
    `train/000.tar`. Archives without such a name are for training, unless others are given or named for it.
    If names are for one split only, nothing follows from them, and all folders are "".

    Args:
        paths: of the archives.
        base: the folder that has all of them.
        given: paths of the archives that are given for "train" and for "val".
    """
    names = {path: _split_name(path, base) for path in paths}
    for split, find in (("val", find_val), ("train", find_train)):
        if split in given:  # names for this split do not matter then
            names = {path: OTHERS if find([name]) else name for path, name in names.items()}
            names |= dict.fromkeys(given[split], split)
    without_name = OTHERS if find_train(names.values()) else "train"
    names = {path: name or without_name for path, name in names.items()}
    both = find_train(names.values()) and find_val(names.values())
    return [names[path] if both or given else "" for path in paths]


def given_splits(files: FileIndex, archives: Mapping[str, object], folders: Mapping[str, str]) -> NamedSplits:
    """Return the splits where `train`, `val` or both are given.

    Args:
        files: of all archives; those of `archives` are in folders named after the split.
        archives: the splits that are given by archives.
        folders: in the archives, for the splits that are given by them.

    Raises:
        ConfigError: a folder has no images.
    """
    in_folders = {split: _below(files, split, folder) for split, folder in folders.items()}
    parts = {split: files.below(split) for split in archives} | in_folders
    val, train = parts.get("val"), parts.get("train", files)
    if val is None and "train" in archives and (name := find_val(files.first_folders()[1])):
        val = files.below(name)
    if val is not None and "train" not in archives:
        train = files.below("train") if "val" in archives else train
    if val is not None:
        train = train.take(np.flatnonzero(~np.isin(train.rows, val.rows)))
    unused = len(files) - len(train) - (0 if val is None else len(val))
    skipped = +Counter({"of neither split": unused})
    train_files, _ = descend(train)
    return NamedSplits([train_files], [] if val is None else [val], "", folders.get("val", ""), skipped)


def _below(files: FileIndex, parameter: str, folder: str) -> FileIndex:
    found = files.below(folder)
    if not len(found):
        names = files.first_folders()[1]
        hint = did_you_mean(folder, names) if names else "the archives have no folders"
        raise ConfigError(parameter, folder, "is neither an archive nor a folder in the archives", hint=hint)
    return found


def _split_name(path: str, base: str) -> str:
    """Return the first word of a path that names a split; "" if there is none."""
    words = re.split(r"[\W\d_]+", os.path.relpath(path, base).removesuffix(".tar"))
    return next((split_word(word) for word in words if split_word(word)), "")
