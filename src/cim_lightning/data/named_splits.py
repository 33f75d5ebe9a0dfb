"""Splits by the names of folders, or by the column "split" of a list."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from cim_lightning.data.class_labels import LabeledFiles, are_strays
from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.given_path import GivenPath
from cim_lightning.data.listing import Listing
from cim_lightning.data.split_names import (
    TRAIN_WORDS,
    VAL_WORDS,
    containing,
    find_train,
    find_val,
    split_word,
    unclear_splits,
)

Files = FileIndex | LabeledFiles  # FileIndex: the folders are classes; LabeledFiles: a table has the labels


class NamedSplits(NamedTuple):
    """Files for training and for validation."""

    train: list[Files]
    val: list[Files]  # empty: no name says what is for validation
    train_name: str = ""  # where the files come from, for the summary
    val_name: str = ""
    skipped: Counter[str] = Counter()  # noqa: RUF012 -- never changed


def split_by_name(listing: Listing, given: GivenPath) -> NamedSplits:
    """Split a listing by the names of its folders, or by the splits of its table; see split_names.

    A single folder that has all images, such as `dataset/`, may be above the splits or classes.

    Args:
        given: for errors.

    Raises:
        ConfigError: the folders look like splits, but their names are unknown; a table has no training split.
    """
    if listing.table is not None:
        return _split_table(listing.table, given)
    files, above = descend(listing.files, skip_strays=True)
    strays = +Counter({f"beside {above}": len(listing.files) - len(files)})
    numbers, names = files.first_folders()
    train, val = find_train(names), find_val(names)
    if train is None or val is None:
        if reason := unclear_splits(files):
            raise given.error(f"{reason}, as if they were splits", _ways_out(files, above))
        return NamedSplits([files], [], above, skipped=strays)
    train_files, _ = descend(files.below(train))
    counts = np.bincount(numbers + 1, minlength=len(names) + 1).tolist()
    unused = {f"in {name}": n for name, n in zip(names, counts[1:], strict=True) if name not in (train, val)}
    skipped = +Counter(unused | {"beside the splits": counts[0]}) + strays
    return NamedSplits([train_files], [files.below(val)], above + train, above + val, skipped)


def _split_table(table: dict[str, LabeledFiles], given: GivenPath) -> NamedSplits:
    if list(table) == [""]:
        return NamedSplits([table[""]], [])
    train, val = find_train(table), find_val(table)
    if train is None:
        rule = f"has no training images in its column of splits ({', '.join(sorted(table))})"
        raise given.error(rule, "try train or training there, or a list per split")
    unused = {name or "without a split": len(part.files) for name, part in table.items()}
    skipped = Counter({f"of {name}": n for name, n in unused.items() if name not in (train, val)})
    return NamedSplits([table[train]], [table[val]] if val else [], train, val or "", skipped)


def descend(files: FileIndex, skip_strays: bool = False) -> tuple[FileIndex, str]:
    """Return the files below the folders that have all images, and the path of these folders.

    A folder with images directly in it may be a class. It is left alone, unless it has the name of a split.

    Args:
        skip_strays: leave out a few images that are beside these folders.

    Returns:
        Files, and the path with a "/" at the end; "" if there is no such folder.
    """
    path = ""
    while True:
        numbers, names = files.first_folders()
        beside = int((numbers < 0).sum())
        if len(names) != 1 or (beside and not (skip_strays and are_strays(beside, len(files)))):
            return files, path
        inside = files.below(names[0])
        if not split_word(names[0]) and (inside.first_folders()[0] < 0).any():
            return files, path
        files, path = inside, f"{path}{names[0]}/"


def _ways_out(files: FileIndex, above: str) -> str:
    names = files.first_folders()[1]
    inside = sorted({inner for name in names for inner in files.below(name).first_folders()[1]})
    if (train := find_train(inside)) and (val := find_val(inside)):
        return f"try train='{above}*/{train}' val='{above}*/{val}'"
    other = [name for name in names if not split_word(name)]
    train = find_train(names) or [*containing(names, TRAIN_WORDS), *other, *names][0]
    others = [name for name in names if name != train]
    val = find_val(others) or [*containing(others, VAL_WORDS), *others][0]
    classes = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return f"try train={above}{train} val={above}{val}, or train={above or '.'} for classes {classes}"
