"""Common corruptions as they were published: files of every corruption and severity."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.corruptions.catalog import CORRUPTIONS, SEVERITIES
from cim_lightning.evaluation.robustness.accuracy import accuracies, unchanged
from cim_lightning.evaluation.robustness.attacks import Classifier
from cim_lightning.evaluation.robustness.class_subset import RelabeledData, Subset
from cim_lightning.evaluation.robustness.corruption_error import CorruptionBaseline, check
from cim_lightning.evaluation.robustness.corruption_table import keep, summary
from cim_lightning.evaluation.training_cache import fingerprint


class StoredCorruptions:
    """The part "imagenet_c"; for corruptions made on the fly of any data set, see Robustness.

    Args:
        classifier: makes a classifier of images of 0..1 of a context.
        folders: makes, for names of corruptions, the images by (corruption, severity), all of them in "val".
        corruptions: names; None: the fifteen of the benchmark.
        num_images: most images of each, and of validation; None: all.
        baseline: what corruption errors are divided by; None: they are reported as they are.

    Leaves in the context's folder: imagenet_c/corruptions.csv and imagenet_c/severity.png. What is measured
    of a folder is kept, so that an interrupted evaluation goes on with the next.

    Raises:
        ConfigError: the baseline lacks a corruption, or a folder is missing; when called, a folder has a
            class that the training images lack.
    """

    def __init__(
        self,
        classifier: Callable[[EvalContext], Classifier],
        folders: Callable[..., Mapping[tuple[str, int], Any]],
        corruptions: Sequence[str] | None,
        num_images: int | None,
        baseline: CorruptionBaseline | None,
    ):
        self.corruptions = list(CORRUPTIONS) if corruptions is None else list(corruptions)
        if not self.corruptions:
            raise ConfigError("evaluation.imagenet_c.corruptions=[]: one or more; try null, all fifteen")
        if baseline is not None:
            check(self.corruptions, baseline)
        self.classifier, self.folders = classifier, folders(corruptions=self.corruptions)
        self.num_images, self.baseline = num_images, baseline

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Clean accuracy (0..1) on the validation images of the same classes, and what `summary` says."""
        known = context.data.splits.train.classes or []
        setting = "evaluation.imagenet_c.folders.root"
        subsets = {key: Subset(data.splits.val.classes, known, setting) for key, data in self.folders.items()}
        if self.baseline is not None and self.baseline.classes not in (None, len(known)):
            raise ConfigError(
                f"evaluation.imagenet_c.baseline={self.baseline.name}: tells {self.baseline.classes} classes "
                f"apart, these images have {len(known)}; try evaluation.imagenet_c.baseline=null"
            )
        classifier = self.classifier(context)

        kept = context.kept("imagenet_c", "accuracies", self._asked())
        done: dict[str, float] = (kept.begun() or {}).get("done", {})

        def accuracy(name: str, data: Any, subset: Subset) -> float:
            if name not in done:
                there = replace(context, data=data)
                narrowed = subset.narrowed(classifier)
                done.update(accuracies(narrowed, {name: unchanged}, there, "val", self.num_images))
                kept.keep({"done": done})
            return done[name]

        first = next(iter(subsets.values()))
        clean = accuracy("clean", RelabeledData(context.data, first), first)
        found = {}
        for name, s in tqdm(self.folders, "stored corruptions", unit="folder", leave=False, disable=None):
            found[name, s] = accuracy(f"{name}/{s}", self.folders[name, s], subsets[name, s])
        table = {name: [found[name, s] for s in SEVERITIES] for name in self.corruptions}
        keep(table, clean, context.folder / "imagenet_c")
        return {"accuracy_clean": clean} | summary(table, clean, self.baseline)

    def _asked(self) -> Any:
        """All that an accuracy depends on."""
        sources = [fingerprint([data.source, data.view.size]) for data in self.folders.values()]
        return [fingerprint(self.classifier), sources, self.num_images]
