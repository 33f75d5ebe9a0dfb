"""Other test sets of the same classes, such as ImageNet-A, -R and -Sketch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from cim_lightning.checks import check_at_least
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext, FitClassifier
from cim_lightning.evaluation.requirements import needs_labels
from cim_lightning.evaluation.robustness.accuracy import (
    ClassSubset,
    accuracy,
    check_fit,
    fit_passes,
    percentage,
)
from cim_lightning.metric_registry import Metric


@dataclass
class Variants:
    """Accuracy on other test sets, and on the validation images of the same classes.

    ImageNet-A and -R have 200 of the 1,000 classes. In both accuracies, the prediction is the most likely of
    the classes in the test set (Hendrycks et al., "Natural adversarial examples", CVPR 2021, and "The many
    faces of robustness", ICCV 2021; Wang et al., "Learning robust global representations", NeurIPS 2019).
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        percentage("accuracy_*", "accuracy on *"),
        percentage("clean_*", "accuracy on the validation images of the classes of *"),
        percentage("gap_*", "accuracy lost on *", False),
    )

    classifier: FitClassifier
    folders: Mapping[str, Any]  # data by name, all in "val"; class names as in the training images
    num_images: int | None  # maximum number of images per test set, and of validation images; None: all

    def __post_init__(self) -> None:
        check_at_least("num_images", self.num_images, 1)

    def applies(self, context: EvalContext) -> str | None:
        if reason := needs_labels(context):
            return reason
        try:
            self._subsets(context)
        except ConfigError as error:
            return f"needs other folders: {error}"
        check_fit(self.classifier, context)
        return None

    def forward_passes(self, context: EvalContext) -> float:
        contexts = [context, *(context.on(data) for data in self.folders.values())]
        images = [part.num_images("val", self.num_images) for part in contexts]
        return len(self.folders) * images[0] + sum(images[1:]) + fit_passes(self.classifier, context)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return "accuracy_<name>", "clean_<name>" on validation images, and their gap, in %."""
        subsets, classifier = self._subsets(context), self.classifier(context)
        metrics, images = {}, {}
        for name, subset in subsets.items():
            restricted, on_folder = subset.restrict(classifier), context.on(self.folders[name])
            shifted = accuracy(restricted, on_folder, self.num_images)
            clean = accuracy(restricted, context, self.num_images, relabel=subset.relabel)
            metrics |= {f"accuracy_{name}": shifted, f"clean_{name}": clean, f"gap_{name}": clean - shifted}
            images[name] = on_folder.num_images("val", self.num_images)
        context.record(images=images)
        return metrics

    def _subsets(self, context: EvalContext) -> dict[str, ClassSubset]:
        classes = context.data.splits.train.classes or []
        return {
            name: ClassSubset(data.splits.val.classes, classes, name) for name, data in self.folders.items()
        }
