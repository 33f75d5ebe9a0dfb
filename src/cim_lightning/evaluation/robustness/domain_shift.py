"""Generalization from one domain to others, such as from photographs to sketches."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from cim_lightning.checks import check_one_of
from cim_lightning.evaluation.context import EvalContext, FitClassifier
from cim_lightning.evaluation.robustness.accuracy import accuracy
from cim_lightning.evaluation.training_cache import fingerprint


@dataclass
class DomainShift:
    """Accuracy on all domains of a classifier trained on one domain.

    Source: the protocol of PACS (Li et al., "Deeper, broader and artier domain generalization", ICCV 2017)
    with one source domain.
    """

    classifier: FitClassifier
    domains: Mapping[str, Any]  # data by name, all with the same classes
    source: str  # domain to train on; only its validation images are evaluated, but all images of the others
    num_images: int | None  # maximum number of images per domain and split; None: all

    def __post_init__(self) -> None:
        check_one_of("source", self.source, self.domains)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return "accuracy_<domain>" (0..1) and the mean over the target domains, "accuracy_others"."""
        data = self.domains[self.source]
        cache_key = context.cache_key | {"data": fingerprint([data.source, data.view.size])}
        # The cached features are those of other images.
        classifier = self.classifier(replace(context, data=data, cache_key=cache_key, _features={}))
        metrics = {}
        for name in sorted(self.domains, key=lambda name: name != self.source):  # the source first
            splits = ("val",) if name == self.source else ("train", "val")
            on_domain = replace(context, data=self.domains[name])
            metrics[f"accuracy_{name}"] = accuracy(classifier, on_domain, self.num_images, splits=splits)
        others = [metrics[f"accuracy_{name}"] for name in self.domains if name != self.source]
        return metrics | ({"accuracy_others": fmean(others)} if others else {})
