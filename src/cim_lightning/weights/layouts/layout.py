"""A layout: how to recognize the checkpoints of a project, and how to rename their tensors."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from torch import Tensor

State = dict[str, Tensor]


def unchanged(tensors: State) -> State:
    """Return the tensors under their own names, for projects with timm's names."""
    return tensors


@dataclass(frozen=True)
class Layout:
    """The checkpoints of a project.

    Args:
        key: value of `weights_layout`.
        title: for messages.
        marks: patterns, each of which is found in a name of such a checkpoint.
        prefixes: pattern of the whole prefix of the backbone's names, for a layout that the user names.
        convert: returns the tensors under timm's names, with the prefixes as they were.
    """

    key: str
    title: str
    marks: tuple[str, ...]
    prefixes: str = ".*"
    convert: Callable[[State], State] = unchanged

    def is_of(self, names: Collection[str]) -> bool:
        """Return whether a checkpoint with these names of tensors and entries has this layout."""
        return all(any(re.search(mark, name) for name in names) for mark in self.marks)
