"""How much of what is learned in one domain holds in others: from photographs to sketches, say."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.robustness.accuracy import accuracies, unchanged
from cim_lightning.evaluation.robustness.attacks import Classifier
from cim_lightning.evaluation.training_cache import fingerprint


class DomainShift:
    """The part "domain_shift": a classifier fitted to one domain's training images, tried on all domains.

    Args:
        classifier: fits a classifier of images of 0..1 to a context.
        domains: each domain's images by name, with `center_crop_dataloader`; all have the same classes.
        source: the domain that is trained on; of it, only validation images are tried, of others all.
        num_images: images tried of each domain and split; null: all.

    Source: the protocol of PACS (Li et al., "Deeper, broader and artier domain generalization", ICCV 2017)
    with one source domain.
    Raises ConfigError where there is no such domain.
    """

    def __init__(
        self,
        classifier: Callable[[EvalContext], Classifier],
        domains: Mapping[str, Any],
        source: str,
        num_images: int | None,
    ):
        if source not in domains:
            raise ConfigError(
                f"evaluation.domain_shift.source={source}: there is no such domain; try {', '.join(domains)}"
            )
        self.classifier, self.domains = classifier, domains
        self.source, self.num_images = source, num_images

    def __call__(self, context: EvalContext) -> dict[str, float]:
        data = self.domains[self.source]
        origin = context.origin | {"data": fingerprint([data.source, data.view.size])}
        # Of its own features: the context's are those of other images.
        classifier = self.classifier(replace(context, data=data, origin=origin, _features={}))
        numbers = {f"accuracy_{self.source}": self._accuracy(classifier, context, self.source, "val")}
        others = [name for name in self.domains if name != self.source]
        for name in others:
            numbers[f"accuracy_{name}"] = self._accuracy(classifier, context, name, "train", "val")
        if others:
            numbers["accuracy_others"] = fmean(numbers[f"accuracy_{name}"] for name in others)
        return numbers

    def _accuracy(self, classifier: Classifier, context: EvalContext, name: str, *splits: str) -> float:
        there = replace(context, data=self.domains[name])
        right, total = 0.0, 0
        for split in splits:
            count = len(getattr(self.domains[name].splits, split))
            count = count if self.num_images is None else min(count, self.num_images)
            clean = {"clean": unchanged}
            right += count * accuracies(classifier, clean, there, split, self.num_images)["clean"]
            total += count
        return right / total
