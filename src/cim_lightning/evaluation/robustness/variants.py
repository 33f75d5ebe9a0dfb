"""Other test sets of the same classes, such as ImageNet-A, -R and -Sketch."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.robustness.accuracy import accuracies, unchanged
from cim_lightning.evaluation.robustness.attacks import Classifier
from cim_lightning.evaluation.robustness.class_subset import RelabeledData, Subset


class Variants:
    """The part "variants": accuracy on each folder, and on the validation images of the same classes.

    ImageNet-A and -R hold 200 of the 1,000 classes: an answer is the likeliest of the classes that the folder
    has, on either side of the comparison (Hendrycks et al., "Natural adversarial examples", CVPR 2021, and
    "The many faces of robustness", ICCV 2021; Wang et al., "Learning robust global representations", NeurIPS
    2019).

    Args:
        classifier: makes a classifier of images of 0..1 of a context.
        folders: images by name, all of them in "val"; their classes are found among the training images' by
            name, for ImageNet WordNet's numbers.
        num_images: most images of each, and of validation; None: all.

    Raises:
        ConfigError: when called, a folder has a class that the training images lack.
    """

    def __init__(
        self,
        classifier: Callable[[EvalContext], Classifier],
        folders: Mapping[str, Any],
        num_images: int | None,
    ):
        self.classifier, self.folders, self.num_images = classifier, folders, num_images

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Shares, 0..1: "accuracy_<name>"; "clean_<name>", of validation images of its classes; their gap."""
        subsets = {
            name: Subset(
                data.splits.val.classes,
                context.data.splits.train.classes or [],
                f"evaluation.variants.folders.roots.{name}",
            )
            for name, data in self.folders.items()
        }
        classifier = self.classifier(context)
        numbers = {}
        for name, subset in subsets.items():
            narrowed = subset.narrowed(classifier)
            for title, data in (
                ("accuracy", self.folders[name]),
                ("clean", RelabeledData(context.data, subset)),
            ):
                there = replace(context, data=data)
                found = accuracies(narrowed, {title: unchanged}, there, "val", self.num_images)
                numbers[f"{title}_{name}"] = found[title]
            numbers[f"gap_{name}"] = numbers[f"clean_{name}"] - numbers[f"accuracy_{name}"]
        return numbers
