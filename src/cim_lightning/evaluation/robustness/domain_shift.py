"""Generalization from one domain to others, such as from photographs to sketches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from cim_lightning.bounds import one_of
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.robustness.accuracy import accuracy
from cim_lightning.evaluation.robustness.attacks import Classifier
from cim_lightning.evaluation.training_cache import fingerprint


@dataclass
class DomainShift:
    """Accuracy on all domains of a classifier trained on one domain.

    Source: the protocol of PACS (Li et al., "Deeper, broader and artier domain generalization", ICCV 2017)
    with one source domain.

    Args:
        classifier: fits a classifier of images in 0..1 to a context.
        domains: data by name, all with the same classes.
        source: domain to train on. Its validation images are evaluated, and all images of the others.
        num_images: maximum number of images per domain and split; None: all.
    """

    classifier: Callable[[EvalContext], Classifier]
    domains: Mapping[str, Any]
    source: str
    num_images: int | None

    def __post_init__(self) -> None:
        one_of("source", self.source, self.domains)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return "accuracy_<domain>" (0..1) and the mean over the target domains, "accuracy_others"."""
        data = self.domains[self.source]
        origin = context.origin | {"data": fingerprint([data.source, data.view.size])}
        # Without the cached features, which are those of other images.
        classifier = self.classifier(replace(context, data=data, origin=origin, _features={}))
        found = {}
        for name in sorted(self.domains, key=lambda name: name != self.source):
            splits = ("val",) if name == self.source else ("train", "val")
            domain = replace(context, data=self.domains[name])
            found[name] = accuracy(classifier, domain, self.num_images, splits=splits)
        metrics = {f"accuracy_{name}": value for name, value in found.items()}
        others = [value for name, value in found.items() if name != self.source]
        return metrics | ({"accuracy_others": fmean(others)} if others else {})
