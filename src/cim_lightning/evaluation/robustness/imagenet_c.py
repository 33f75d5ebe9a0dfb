"""Common corruptions as published: image files of every corruption and severity."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tqdm import tqdm

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext, FitClassifier
from cim_lightning.evaluation.corruptions.catalog import CORRUPTIONS
from cim_lightning.evaluation.robustness.accuracy import ClassSubset, accuracy
from cim_lightning.evaluation.robustness.corruption_error import CorruptionBaseline, summarize
from cim_lightning.evaluation.training_cache import fingerprint


@dataclass
class StoredCorruptions:
    """Accuracy on stored corrupted images; Robustness corrupts the images of any data set on the device.

    The accuracy on each folder is cached, so an interrupted evaluation resumes with the next folder. It
    writes imagenet_c/corruptions.csv and imagenet_c/severity.png into the context's folder.
    """

    classifier: FitClassifier
    folders: Callable[..., Mapping[tuple[str, int], Any]]  # corruptions=[names] -> data by (name, severity)
    corruptions: Sequence[str] | None  # names; None: the fifteen of the benchmark
    num_images: int | None  # maximum number of images per folder, and of validation images; None: all
    baseline: CorruptionBaseline | None  # denominator of the corruption errors; None: no mCE

    def __post_init__(self) -> None:
        self.names = list(CORRUPTIONS if self.corruptions is None else self.corruptions)
        if not self.names:
            raise ConfigError("corruptions", [], "must have one or more names", suggest=None)
        if self.baseline is not None:
            self.baseline.check(self.names)
        self.data = self.folders(corruptions=self.names)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return the metrics of `summarize`; clean images are validation images of the same classes."""
        classes = context.data.splits.train.classes or []
        folders = {f"{name}/{severity}": data for (name, severity), data in self.data.items()}
        subsets = {key: ClassSubset(data.splits.val.classes, classes, key) for key, data in folders.items()}
        if self.baseline is not None and self.baseline.classes not in (None, len(classes)):
            rule = f"is for {self.baseline.classes} classes, these images have {len(classes)}"
            raise ConfigError("baseline", self.baseline.name, rule, suggest=None)
        classifier = self.classifier(context)
        sources = [[data.source, data.view.size] for data in folders.values()]
        args = fingerprint([self.classifier, sources, self.num_images])
        cache = context.training_cache("imagenet_c", "accuracies", args)
        measured: dict[str, float] = (cache.unfinished() or {}).get("found", {})
        subsets["clean"] = next(iter(subsets.values()))
        for key in tqdm(["clean", *folders], "stored corruptions", unit="folder", leave=False, disable=None):
            if key not in measured:
                restricted = subsets[key].restrict(classifier)
                on_folder = replace(context, data=folders.get(key, context.data))
                kwargs = {"relabel": subsets[key].relabel} if key == "clean" else {}
                measured[key] = accuracy(restricted, on_folder, self.num_images, **kwargs)
                cache.save_state({"found": measured})
        metrics = summarize(measured, self.names, self.baseline, context.folder / "imagenet_c")
        return {"accuracy_clean": measured["clean"]} | metrics
