"""A classifier of many classes, held to the few that a set of images has."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.robustness.attacks import Classifier


class Subset:
    """Some of a classifier's classes, in the order in which a set of images numbers them.

    Args:
        there: names of the images' classes.
        known: names of the classifier's.
        setting: where the images come from, for the message.

    Raises:
        ConfigError: the images have a class that the classifier does not know.
    """

    def __init__(self, there: Sequence[str], known: Sequence[str], setting: str):
        for name in there:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1, cutoff=0)
                raise ConfigError(
                    f"{setting}: has the class {name!r}, which the classifier's training images lack; "
                    f"try {near[0] if near else 'none'!r}"
                )
        self.positions = torch.tensor([list(known).index(name) for name in there])
        self.of = torch.full((len(known),), -1)
        self.of[self.positions] = torch.arange(len(there))

    def narrowed(self, classifier: Classifier) -> Classifier:
        """The classifier, whose answer is now the likeliest of these classes."""
        return lambda images: classifier(images)[:, self.positions.to(images.device)]

    def relabeled(self, labels: Int64[Tensor, " b"]) -> Int64[Tensor, " b"]:
        """Numbers among the classifier's classes as numbers among these; -1 for all others."""
        return torch.where(labels < 0, labels, self.of[labels.clamp(min=0)])


class RelabeledData:
    """The images of some data that are of these classes, numbered as they are; the others have no label."""

    def __init__(self, data: Any, subset: Subset):
        self.data, self.subset = data, subset

    def center_crop_dataloader(self, split: str, limit: int | None) -> "RelabeledData._Batches":
        return RelabeledData._Batches(self.data.center_crop_dataloader(split, limit), self.subset)

    class _Batches:
        def __init__(self, batches: Any, subset: Subset):
            self.batches, self.subset = batches, subset

        def __len__(self) -> int:
            return len(self.batches)

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            for batch in self.batches:
                yield batch[0], self.subset.relabeled(batch[1])
