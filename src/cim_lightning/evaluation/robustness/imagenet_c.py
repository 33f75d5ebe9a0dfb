"""Common corruptions as published: image files of every corruption and severity."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tqdm import tqdm

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.corruptions.catalog import CORRUPTIONS
from cim_lightning.evaluation.robustness.accuracy import ClassSubset, accuracy
from cim_lightning.evaluation.robustness.attacks import Classifier
from cim_lightning.evaluation.robustness.corruption_error import CorruptionBaseline, CorruptionTable
from cim_lightning.evaluation.training_cache import fingerprint


@dataclass
class StoredCorruptions:
    """Accuracy on stored corrupted images; Robustness corrupts the images of any data set on the device.

    The accuracy on each folder is cached, so an interrupted evaluation resumes with the next folder. It
    writes imagenet_c/corruptions.csv and imagenet_c/severity.png into the context's folder.

    Args:
        classifier: fits a classifier of images in 0..1 to a context.
        folders: maps names of corruptions to the data by (corruption, severity), all images in "val".
        corruptions: names; None: the fifteen of the benchmark.
        num_images: maximum number of images per folder, and of validation images; None: all.
        baseline: denominator of the corruption errors; None: no mCE.
    """

    classifier: Callable[[EvalContext], Classifier]
    folders: Callable[..., Mapping[tuple[str, int], Any]]
    corruptions: Sequence[str] | None
    num_images: int | None
    baseline: CorruptionBaseline | None

    def __post_init__(self) -> None:
        names = list(CORRUPTIONS) if self.corruptions is None else list(self.corruptions)
        if not names:
            raise ConfigError("corruptions", [], "must have one or more names", suggest=None)
        if self.baseline is not None:
            self.baseline.check(names)
        self.data = self.folders(corruptions=names)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return the metrics of a CorruptionTable; clean images are validation images of the same classes."""
        classes = context.data.splits.train.classes or []
        subsets = {
            (name, s): ClassSubset(data.splits.val.classes, classes, f"{name}/{s}")
            for (name, s), data in self.data.items()
        }
        if self.baseline is not None and self.baseline.classes not in (None, len(classes)):
            rule = f"is for {self.baseline.classes} classes, these images have {len(classes)}"
            raise ConfigError("baseline", self.baseline.name, rule, suggest=None)
        classifier = self.classifier(context)
        sources = [fingerprint([data.source, data.view.size]) for data in self.data.values()]
        cache = context.training_cache(
            "imagenet_c", "accuracies", [fingerprint(self.classifier), sources, self.num_images]
        )
        found: dict[str, float] = (cache.unfinished() or {}).get("found", {})

        def measure(key: str, subset: ClassSubset, data: Any, **kwargs: Any) -> None:
            if key not in found:
                restricted, shifted = subset.restrict(classifier), replace(context, data=data)
                found[key] = accuracy(restricted, shifted, self.num_images, **kwargs)
                cache.save_state({"found": found})

        first = next(iter(subsets.values()))
        measure("clean", first, context.data, relabel=first.relabel)
        for key in tqdm(self.data, "stored corruptions", unit="folder", leave=False, disable=None):
            measure("/".join(map(str, key)), subsets[key], self.data[key])
        table = CorruptionTable.collect(found, dict.fromkeys(name for name, _ in self.data))
        table.save(context.folder / "imagenet_c")
        return {"accuracy_clean": table.clean} | table.metrics(self.baseline)
