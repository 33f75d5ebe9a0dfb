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
# Words in a name, such as "cub" and "train" in cub_train and CUBTrain.
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
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


def containing(names: Iterable[str], words: Collection[str]) -> list[str]:
    """Return the names that contain one of the words of splits, such as `cub_train`."""
    return [name for name in names if any(split_word(word) in words for word in WORDS.findall(name))]


def _first(names: Iterable[str], words: Collection[str]) -> str | None:
    rank = {word: i for i, word in enumerate(words)}
    found = [(rank[split_word(name)], name) for name in names if split_word(name) in rank]
    return min(found)[1] if found else None


def unclear_splits(files: FileIndex) -> str:
    """Return why the first-level folders may be splits instead of classes; "" if they look like classes.

    They may be splits if there are few, and half of them have names of splits, or two have names that contain
    such words (`cub_train` beside `cub_test`), or two have the same sub-folders. Any number of folders is
    unclear if each has splits (`cat/train`, `cat/test`).

    Args:
        files: a tree without a folder for training beside one for validation.
    """
    _, names = files.first_folders()
    if len(names) < 2:
        return ""
    inside = (files.below(name).first_folders()[1] for name in names)  # slow for many folders
    if all(find_train(folders) and find_val(folders) for folders in inside):
        return f"each of {_join(names)} has folders for training and validation"
    alike = len({re.sub(r"\d+", "", name) for name in names}) == 1
    if len(names) > (FOLDS if alike else FEW):
        return ""
    splits = [name for name in names if split_word(name)]
    if 2 * len(splits) >= len(names):
        others = [name for name in names if name not in splits]
        return f"has {_join(splits)} {f'beside {_join(others)}' if others else 'without train'}"
    train, val = (containing(names, words) for words in (TRAIN_WORDS, VAL_WORDS))
    if train and val:
        return f"has {_join(train)} beside {_join(val)}"
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
