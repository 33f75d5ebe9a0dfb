"""Names of split folders, such as `train` and `validation`."""

import re
from collections.abc import Collection, Iterable

from cim_lightning.data.file_index import FileIndex

# In the order of preference, if a tree has several.
TRAIN_WORDS = ("train", "training", "trn")
VAL_WORDS = (
    *("val", "valid", "validation", "validate", "validating"),
    *("dev", "devel", "development", "eval", "evaluation", "holdout"),
    *("test", "testing", "tst"),
)
# In any case, with the usual additions: Train, trainset, train_images, train2017, ILSVRC2012_img_val.
ADDITIONS = re.compile(r"^(ilsvrc\d+)?(im(g|age)s?)?|(set|data|split|im(g|age)s?)?\d*$")
FEW = 4  # largest number of folders that may be splits under unknown names
FOLDS = 10  # and if the names differ only in a number, such as fold1 to fold10
MIN_SHARED = 2  # sub-folders that two folders must share to look like splits
MIN_SHARE = 0.5  # and their share of all sub-folders of both


def split_word(name: str) -> str:
    """Return the word of a split folder's name, such as "train" for "Train_Set"; "" for other names."""
    compact = re.sub(r"[\W_]+", "", name).lower()
    words = {compact, ADDITIONS.sub("", compact)}
    return next((word for word in (*TRAIN_WORDS, *VAL_WORDS) if word in words), "")


def find_train(names: Iterable[str]) -> str | None:
    """Return the name of the training split; None if there is none."""
    return _first(names, TRAIN_WORDS)


def find_val(names: Iterable[str]) -> str | None:
    """Return the name of the validation split, which is the test split if there is no other; None if none."""
    return _first(names, VAL_WORDS)


def _first(names: Iterable[str], words: Collection[str]) -> str | None:
    rank = {word: i for i, word in enumerate(words)}
    found = [(rank[split_word(name)], name) for name in names if split_word(name) in rank]
    return min(found)[1] if found else None


def unclear_splits(files: FileIndex) -> str:
    """Return why the first-level folders may be splits instead of classes; "" if they look like classes.

    They may be splits if there are few, and half of them have names of splits, or two have the same
    sub-folders.

    Args:
        files: a tree without a folder for training beside one for validation.
    """
    _, names = files.first_folders()
    alike = len({re.sub(r"\d+", "", name) for name in names}) == 1
    if not 2 <= len(names) <= (FOLDS if alike else FEW):
        return ""
    splits = [name for name in names if split_word(name)]
    if 2 * len(splits) >= len(names):
        others = [name for name in names if name not in splits]
        return f"{_join(splits)} beside {_join(others)}" if others else f"{_join(splits)} without train"
    sub_folders = {name: set(files.below(name).first_folders()[1]) for name in names}
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            shared = sub_folders[first] & sub_folders[second]
            total = len(sub_folders[first] | sub_folders[second])
            if len(shared) >= MIN_SHARED and len(shared) >= MIN_SHARE * total:
                return f"{first} and {second} have the same sub-folders ({_join(sorted(shared), 3)})"
    return ""


def _join(names: list[str], limit: int = FEW) -> str:
    return ", ".join([*names[:limit], *(["..."] if len(names) > limit else [])])
