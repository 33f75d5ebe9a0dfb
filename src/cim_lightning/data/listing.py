"""`Listing`: image files, and what is known about them."""

from collections import Counter
from typing import NamedTuple

from cim_lightning.data.class_labels import LabeledFiles
from cim_lightning.data.file_index import FileIndex


class Listing(NamedTuple):
    """Image files of a folder, a list or a glob."""

    files: FileIndex
    skipped: Counter[str]  # number of other files by reason
    table: dict[str, LabeledFiles] | None = None  # of a list: its files by split; "" if it has no splits
