"""Common corruptions as they were published: files of every corruption and severity."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from cim_lightning.errors import SettingError
from cim_lightning.evaluation.corruptions.catalogue import CORRUPTIONS, SEVERITIES
from cim_lightning.evaluation.subject import Subject
from cim_lightning.evaluation.training.kept import described
from cim_lightning.evaluation.trials.accuracies import accuracies, unchanged
from cim_lightning.evaluation.trials.attacks import Classifier
from cim_lightning.evaluation.trials.corruption_error import Baseline, check
from cim_lightning.evaluation.trials.corruption_table import keep, summary
from cim_lightning.evaluation.trials.subset import Few, Subset


class StoredCorruptions:
    """The part "imagenet_c"; for corruptions made on the fly of any data set, see Robustness.

    Args:
        classifier: makes a classifier of images of 0..1 of a subject.
        folders: makes, for names of corruptions, the images by (corruption, severity), all of them in "val".
        corruptions: names; None: the fifteen of the benchmark.
        num_images: most images of each, and of validation; None: all.
        baseline: what corruption errors are divided by; None: they are reported as they are.

    Leaves in the subject's folder: imagenet_c/corruptions.csv and imagenet_c/severity.png. What is measured
    of a folder is kept, so that an interrupted evaluation goes on with the next.

    Raises:
        SettingError: the baseline lacks a corruption, or a folder is missing; when called, a folder has a
            class that the training images lack.
    """

    def __init__(
        self,
        classifier: Callable[[Subject], Classifier],
        folders: Callable[..., Mapping[tuple[str, int], Any]],
        corruptions: Sequence[str] | None,
        num_images: int | None,
        baseline: Baseline | None,
    ):
        self.corruptions = list(CORRUPTIONS) if corruptions is None else list(corruptions)
        if not self.corruptions:
            raise SettingError(
                "evaluation.imagenet_c.corruptions=[]: one or more; nearest: null, all fifteen"
            )
        if baseline is not None:
            check(self.corruptions, baseline)
        self.classifier, self.folders = classifier, folders(corruptions=self.corruptions)
        self.num_images, self.baseline = num_images, baseline

    def __call__(self, subject: Subject) -> dict[str, float]:
        """Clean accuracy (0..1) on the validation images of the same classes, and what `summary` says."""
        known = subject.data.splits.train.classes or []
        setting = "evaluation.imagenet_c.folders.root"
        subsets = {key: Subset(data.splits.val.classes, known, setting) for key, data in self.folders.items()}
        if self.baseline is not None and self.baseline.classes not in (None, len(known)):
            raise SettingError(
                f"evaluation.imagenet_c.baseline={self.baseline.name}: tells {self.baseline.classes} classes "
                f"apart, these images have {len(known)}; nearest: evaluation.imagenet_c.baseline=null"
            )
        classifier = self.classifier(subject)

        kept = subject.kept("imagenet_c", "accuracies", self._asked())
        done: dict[str, float] = (kept.begun() or {}).get("done", {})

        def accuracy(name: str, data: Any, subset: Subset) -> float:
            if name not in done:
                there = replace(subject, data=data)
                narrowed = subset.narrowed(classifier)
                done.update(accuracies(narrowed, {name: unchanged}, there, "val", self.num_images))
                kept.keep({"done": done})
            return done[name]

        first = next(iter(subsets.values()))
        clean = accuracy("clean", Few(subject.data, first), first)
        found = {}
        for name, s in tqdm(self.folders, "stored corruptions", unit="folder", leave=False, disable=None):
            found[name, s] = accuracy(f"{name}/{s}", self.folders[name, s], subsets[name, s])
        table = {name: [found[name, s] for s in SEVERITIES] for name in self.corruptions}
        keep(table, clean, subject.folder / "imagenet_c")
        return {"accuracy_clean": clean} | summary(table, clean, self.baseline)

    def _asked(self) -> Any:
        """All that an accuracy depends on."""
        sources = [described([data.source, data.view.size]) for data in self.folders.values()]
        return [described(self.classifier), sources, self.num_images]
