"""Other test sets of the same classes, such as ImageNet-A, -R and -Sketch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cim_lightning.evaluation.context import EvalContext, FitClassifier
from cim_lightning.evaluation.robustness.accuracy import ClassSubset, accuracy


@dataclass
class Variants:
    """Accuracy on other test sets, and on the validation images of the same classes.

    ImageNet-A and -R have 200 of the 1,000 classes. In both accuracies, the prediction is the most likely of
    the classes in the test set (Hendrycks et al., "Natural adversarial examples", CVPR 2021, and "The many
    faces of robustness", ICCV 2021; Wang et al., "Learning robust global representations", NeurIPS 2019).
    """

    classifier: FitClassifier
    folders: Mapping[str, Any]  # data by name, all in "val"; class names as in the training images
    num_images: int | None  # maximum number of images per test set, and of validation images; None: all

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return "accuracy_<name>" (0..1), "clean_<name>" on validation images, and their gap."""
        classes = context.data.splits.train.classes or []
        subsets = {
            name: ClassSubset(data.splits.val.classes, classes, name) for name, data in self.folders.items()
        }
        classifier = self.classifier(context)
        metrics = {}
        for name, subset in subsets.items():
            restricted, on_folder = subset.restrict(classifier), replace(context, data=self.folders[name])
            shifted = accuracy(restricted, on_folder, self.num_images)
            clean = accuracy(restricted, context, self.num_images, relabel=subset.relabel)
            metrics |= {f"accuracy_{name}": shifted, f"clean_{name}": clean, f"gap_{name}": clean - shifted}
        return metrics
