"""Accuracy of a classifier under perturbations of the images, and on a subset of its classes."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor
from tqdm import tqdm

from cim_lightning.checks import did_you_mean
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import Classifier, EvalContext

Perturbation = Callable[..., Tensor]  # images in 0..1, labels, generator=... -> images in 0..1, same shape


def accuracies(
    classifier: Classifier,
    perturbations: Mapping[str, Perturbation | None],
    context: EvalContext,
    limit: int | None,
    *,
    splits: tuple[str, ...] = ("val",),
    relabel: Callable[[Tensor], Tensor] = lambda labels: labels,
) -> dict[str, float]:
    """Return the accuracy (0..1) under each perturbation, by name, in one pass over the images.

    Images with a negative label are skipped. Raise ConfigError if no image has a label. All perturbations of
    a batch use the same random numbers, which depend on the seed and the index of the batch only.

    Args:
        perturbations: by name; None: the images are unchanged.
        limit: maximum number of images per split; None: all.
        relabel: maps the labels of the images to those of the classifier.
    """
    loaders = [context.batches(split, limit, shard=False) for split in splits]
    correct, total = dict.fromkeys(perturbations, 0), 0
    steps = sum(map(len, loaders)) * len(perturbations)
    with tqdm(total=steps, desc="robustness", leave=False, disable=None) as bar:
        for index, batch in enumerate(chain(*loaders)):
            labels = relabel(batch[1])
            images = batch[0][labels >= 0].to(context.device).float() / 255
            labels = labels[labels >= 0].to(context.device)
            total += len(labels)
            bar.update(0 if len(labels) else len(perturbations))
            for name, perturb in perturbations.items() if len(labels) else ():
                generator = torch.Generator(context.device).manual_seed(context.seed + index)
                perturbed = perturb(images, labels, generator=generator) if perturb else images
                with torch.no_grad():
                    correct[name] += int((classifier(perturbed).argmax(dim=1) == labels).sum())
                bar.update()
    if not total:
        raise ConfigError("the images have no labels, which accuracy needs; use class folders")
    return {name: value / total for name, value in correct.items()}


def accuracy(classifier: Classifier, context: EvalContext, limit: int | None, **kwargs: Any) -> float:
    """Return the accuracy (0..1) on unchanged images; for the arguments, see `accuracies`."""
    return accuracies(classifier, {"clean": None}, context, limit, **kwargs)["clean"]


class ClassSubset:
    """The classes of another data set, as a subset of the classes of a classifier.

    Args:
        classes: class names of the other data set; each must be in `all_classes`.
        all_classes: class names of the classifier.
        data: name of the other data set, for the message.
    """

    def __init__(self, classes: Sequence[str], all_classes: Sequence[str], data: str):
        for name in classes:
            if name not in all_classes:
                rule = f"its class {name} is not a class of the training images"
                raise ConfigError(f"{data}: {rule}; {did_you_mean(name, all_classes)}")
        self.indices = torch.tensor([list(all_classes).index(name) for name in classes])

    def restrict(self, classifier: Classifier) -> Classifier:
        """Return a classifier whose logits are those of these classes only."""
        return lambda images: classifier(images)[:, self.indices.to(images.device)]

    def relabel(self, labels: Int64[Tensor, " b"]) -> Int64[Tensor, " b"]:
        """Map the classifier's labels to the labels of these classes, -1 for all other labels."""
        matches = labels[:, None] == self.indices
        return torch.where(matches.any(dim=1), matches.int().argmax(dim=1), -1)
