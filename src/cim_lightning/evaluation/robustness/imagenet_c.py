"""Common corruptions as published: image files of every corruption and severity."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tqdm import tqdm

from cim_lightning.atomic import read_json, write_json
from cim_lightning.checks import check_at_least
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext, FitClassifier
from cim_lightning.evaluation.corruptions.catalog import CORRUPTIONS
from cim_lightning.evaluation.distributed import from_first_process
from cim_lightning.evaluation.fingerprint import fingerprint
from cim_lightning.evaluation.fitting import trainer_factory
from cim_lightning.evaluation.requirements import needs_labels
from cim_lightning.evaluation.robustness.accuracy import ClassSubset, accuracy, check_fit, fit_passes
from cim_lightning.evaluation.robustness.corruption_error import (
    SUMMARY_METRICS,
    CorruptionBaseline,
    summarize,
    write_curves,
)
from cim_lightning.evaluation.trainer_factory import result_settings, uses_trainer
from cim_lightning.metric_registry import Metric


@dataclass
class StoredCorruptions:
    """Accuracy on stored corrupted images; Robustness corrupts the images of any data set on the device.

    The accuracy on each folder is cached, so an interrupted evaluation resumes with the next folder. It
    writes imagenet_c/corruptions.csv and imagenet_c/severity.png into the context's folder.
    """

    metrics: ClassVar[tuple[Metric, ...]] = SUMMARY_METRICS

    classifier: FitClassifier
    folders: Callable[..., Mapping[tuple[str, int], Any]]  # corruptions=[names] -> data by (name, severity)
    corruptions: Sequence[str] | None  # names; None: the fifteen of the benchmark
    num_images: int | None  # maximum number of images per folder, and of validation images; None: all
    baseline: CorruptionBaseline | None  # denominator of the corruption errors; None: no mCE

    def __post_init__(self) -> None:
        check_at_least("num_images", self.num_images, 1)
        self.names = list(CORRUPTIONS if self.corruptions is None else self.corruptions)
        if not self.names:
            raise ConfigError("corruptions", [], "must have one or more names", suggest=None)
        if self.baseline is not None:
            self.baseline.check(self.names)
        self.data = self.folders(corruptions=self.names)

    def applies(self, context: EvalContext) -> str | None:
        if reason := needs_labels(context):
            return reason
        check_fit(self.classifier, context)
        found, needed = len(context.data.splits.train.classes), self.baseline and self.baseline.classes
        return f"needs baseline=null for data of {found} classes" if needed not in (None, found) else None

    def forward_passes(self, context: EvalContext) -> float:
        # Listing the folders takes long, so each counts as many images as the clean ones.
        images = (1 + len(self.data)) * context.num_images("val", self.num_images)
        return images + fit_passes(self.classifier, context)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return the metrics of `summarize`; clean images are validation images of the same classes."""
        classes = context.data.splits.train.classes or []
        folders = {f"{name}/{severity}": data for (name, severity), data in self.data.items()}
        subsets = {key: ClassSubset(data.splits.val.classes, classes, key) for key, data in folders.items()}
        subsets["clean"] = next(iter(subsets.values()))
        classifier = self.classifier(context)
        path, key = context.folder / "imagenet_c" / "accuracies.json", self._cache_key(context)
        cached = from_first_process(read_json(path))  # another machine may have no such file
        measured: dict[str, float] = cached["accuracies"] if cached.get("key") == key else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        for name in tqdm(["clean", *folders], "stored corruptions", unit="folder", leave=False, disable=None):
            if name not in measured:
                restricted = subsets[name].restrict(classifier)
                on_folder = context.on(folders.get(name, context.data))
                kwargs = {"relabel": subsets[name].relabel} if name == "clean" else {}
                measured[name] = accuracy(restricted, on_folder, self.num_images, **kwargs)
                if context.rank == 0:
                    write_json(path, {"key": key, "accuracies": measured})
        if context.rank == 0:
            write_curves(measured, self.names, path.parent)
        context.record(images_per_folder=self.num_images or "all", corruptions="image files")
        return {"accuracy_clean": measured["clean"]} | summarize(measured, self.names, self.baseline)

    def _cache_key(self, context: EvalContext) -> Any:
        """Return everything that the accuracies depend on, as plain values."""
        sources = [[data.source, data.view.size] for data in self.data.values()]
        own = fingerprint([self.classifier, sources, self.num_images, context.view])
        if uses_trainer(self):
            own.append(result_settings(trainer_factory(context).for_validation()))
        return json.loads(json.dumps([context.cache_key, own]))
