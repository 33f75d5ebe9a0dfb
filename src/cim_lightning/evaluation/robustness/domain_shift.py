"""Generalization from one domain to others, such as from photographs to sketches."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, ClassVar

from cim_lightning.checks import check_at_least, check_one_of
from cim_lightning.evaluation.context import EvalContext, FitClassifier
from cim_lightning.evaluation.fingerprint import fingerprint
from cim_lightning.evaluation.requirements import needs_labels
from cim_lightning.evaluation.robustness.accuracy import accuracy, check_fit, fit_passes, percentage
from cim_lightning.metric_registry import Metric


@dataclass
class DomainShift:
    """Accuracy on all domains of a classifier trained on one domain.

    Source: the protocol of PACS (Li et al., "Deeper, broader and artier domain generalization", ICCV 2017)
    with one source domain.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        percentage("accuracy_others", "mean accuracy on the target domains"),
        percentage("accuracy_*", "accuracy on the domain *"),
    )

    classifier: FitClassifier
    domains: Mapping[str, Any]  # data by name, all with the same classes
    source: str  # domain to train on; only its validation images are evaluated, but all images of the others
    num_images: int | None  # maximum number of images per domain and split; None: all

    def __post_init__(self) -> None:
        check_one_of("source", self.source, self.domains)
        check_at_least("num_images", self.num_images, 1)

    def applies(self, context: EvalContext) -> str | None:
        on_source = self._on(context, self.source)
        if reason := needs_labels(on_source):
            return reason
        check_fit(self.classifier, on_source)
        return None

    def forward_passes(self, context: EvalContext) -> float:
        images = [
            self._on(context, name).num_images(split, self.num_images)
            for name in self.domains
            for split in self._splits(name)
        ]
        return sum(images) + fit_passes(self.classifier, self._on(context, self.source))

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return "accuracy_<domain>" and the mean over the target domains, "accuracy_others", in %."""
        classifier = self.classifier(self._on(context, self.source))
        metrics, images = {}, {}
        for name in sorted(self.domains, key=lambda name: name != self.source):  # the source first
            on_domain, splits = self._on(context, name), self._splits(name)
            metrics[f"accuracy_{name}"] = accuracy(classifier, on_domain, self.num_images, splits=splits)
            images[name] = sum(on_domain.num_images(split, self.num_images) for split in splits)
        context.record(source=self.source, images=images)
        others = [metrics[f"accuracy_{name}"] for name in self.domains if name != self.source]
        return metrics | ({"accuracy_others": fmean(others)} if others else {})

    def _on(self, context: EvalContext, domain: str) -> EvalContext:
        """Return a context of the images of a domain, without the cached features of other images."""
        data = self.domains[domain]
        cache_key = context.cache_key | {"data": fingerprint([data.source, data.view.size])}
        return replace(context.on(data), cache_key=cache_key)

    def _splits(self, domain: str) -> tuple[str, ...]:
        """Return the splits to evaluate: the classifier is trained on the others."""
        return ("val",) if domain == self.source else ("train", "val")
