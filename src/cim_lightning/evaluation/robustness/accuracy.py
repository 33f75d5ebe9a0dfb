"""Accuracy of a classifier under perturbations of the images, and on a subset of its classes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor
from tqdm import tqdm

from cim_lightning.checks import did_you_mean
from cim_lightning.cropping.views import to_unit_range
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import Classifier, EvalContext, FitClassifier
from cim_lightning.evaluation.distributed import sum_over_processes
from cim_lightning.metric_registry import Metric

Perturbation = Callable[..., Tensor]  # images in 0..1, labels, generator=... -> images in 0..1, same shape


def percentage(name: str, title: str, higher_is_better: bool = True) -> Metric:
    """Return the metric of an accuracy in %, or of an error."""
    return Metric(name, title, None, (), higher_is_better, digits=1, unit="%")


def accuracies(
    classifier: Classifier,
    perturbations: Mapping[str, Perturbation | None],
    context: EvalContext,
    limit: int | None,
    *,
    splits: tuple[str, ...] = ("val",),
    relabel: Callable[[Tensor], Tensor] = lambda labels: labels,
) -> dict[str, float]:
    """Return the accuracy in % under each perturbation, by name, over the images of all processes.

    Images with a negative label are skipped. All perturbations of a batch use the same random numbers, which
    depend on the seed and the number of the batch in its split only.

    Args:
        perturbations: by name; None: the images are unchanged.
        limit: maximum number of images per split; None: all.
        relabel: maps the labels of the images to those of the classifier.

    Raises:
        ConfigError: no image has a label.
    """
    correct, total = dict.fromkeys(perturbations, 0), 0
    for split in splits:
        batches = tqdm(context.batches(split, limit), split, unit="batch", leave=False, disable=None)
        for i, batch in enumerate(batches):
            labels = relabel(batch[1])
            images = to_unit_range(batch[0][labels >= 0].to(context.device))
            labels = labels[labels >= 0].to(context.device)
            total += len(labels)
            number = context.rank + i * context.world_size
            for name, perturb in perturbations.items() if len(labels) else ():
                generator = torch.Generator(context.device).manual_seed(context.seed + number)
                perturbed = perturb(images, labels, generator=generator) if perturb else images
                with torch.no_grad():
                    correct[name] += int((classifier(perturbed).argmax(dim=1) == labels).sum())
    total = sum_over_processes(total, context.device)
    if not total:
        raise ConfigError("the images have no labels, which accuracy needs; use class folders")
    return {name: 100 * sum_over_processes(n, context.device) / total for name, n in correct.items()}


def accuracy(classifier: Classifier, context: EvalContext, limit: int | None, **kwargs: Any) -> float:
    """Return the accuracy in % on unchanged images; for the arguments, see `accuracies`."""
    return accuracies(classifier, {"clean": None}, context, limit, **kwargs)["clean"]


def check_fit(classifier: FitClassifier, context: EvalContext) -> None:
    """Raise ConfigError if a classifier finds a setting that does not fit the backbone or the data."""
    check: Callable[[EvalContext], None] | None = getattr(classifier, "check", None)
    if check is not None:
        check(context)


def fit_passes(classifier: FitClassifier, context: EvalContext) -> float:
    """Return the forward passes of fitting a classifier, 0 if it does not report them."""
    return getattr(classifier, "forward_passes", lambda _: 0)(context)


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
