"""Accuracy of a classifier on attacked, corrupted, occluded and shuffled images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from cim_lightning.checks import check_above, check_at_least, check_each_within, did_you_mean
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext, FitClassifier
from cim_lightning.evaluation.corruptions.catalog import CORRUPTIONS, SEVERITIES, corrupt
from cim_lightning.evaluation.requirements import needs_labels, needs_rgb
from cim_lightning.evaluation.robustness.accuracy import (
    Perturbation,
    accuracies,
    check_fit,
    fit_passes,
    percentage,
)
from cim_lightning.evaluation.robustness.attacks import fgsm, pgd
from cim_lightning.evaluation.robustness.corruption_error import (
    SUMMARY_METRICS,
    CorruptionBaseline,
    summarize,
    write_curves,
)
from cim_lightning.evaluation.robustness.occlusion import drop_patches, shuffle_patches
from cim_lightning.metric_registry import Metric

GRADIENT_PASSES = 3  # a forward pass, and a backward pass of twice its cost


@dataclass
class Robustness:
    """Accuracy under attacks, common corruptions, occlusion and patch shuffling.

    It writes robustness/corruptions.csv and robustness/severity.png into the context's folder.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        *SUMMARY_METRICS,
        percentage("accuracy_fgsm_*", "accuracy under FGSM, radius */255"),
        percentage("accuracy_pgd_*", "accuracy under PGD, radius */255"),
        percentage("accuracy_drop_*", "accuracy without a share of * of the patches"),
        percentage("accuracy_shuffle_*", "accuracy with shuffled patches, * per side"),
    )

    classifier: FitClassifier
    num_images: int | None  # maximum number of validation images; None: all
    radii: Sequence[float]  # of FGSM and PGD, in gray levels, 0..255
    pgd_steps: int
    pgd_step_size: float  # as a share of the radius
    corruptions: Sequence[str] | None  # keys of CORRUPTIONS; None: all fifteen
    baseline: CorruptionBaseline | None  # denominator of the corruption errors; None: no mCE
    drop_shares: Sequence[float]  # shares (0..1) of the patches to drop
    drop_patches: int  # patches per side of the grid for dropping
    shuffle_patches: Sequence[int]  # patches per side of the grids to shuffle

    def __post_init__(self) -> None:
        check_at_least("num_images", self.num_images, 1)
        check_each_within("radii", self.radii, 0, 255)
        check_at_least("pgd_steps", self.pgd_steps, 1)
        check_above("pgd_step_size", self.pgd_step_size, 0, suggest=0.25)
        check_each_within("drop_shares", self.drop_shares, 0, 1)
        check_at_least("drop_patches", self.drop_patches, 1)
        self.names = list(CORRUPTIONS if self.corruptions is None else self.corruptions)
        for name in self.names:
            if name not in CORRUPTIONS:
                hint = did_you_mean(name, CORRUPTIONS)
                raise ConfigError("corruptions", self.names, f"{name} is no corruption", hint=hint)
        if self.baseline is not None:
            self.baseline.check(self.names)

    def applies(self, context: EvalContext) -> str | None:
        side = context.data.view.size
        grids = [n for n in (self.drop_patches, *self.shuffle_patches) if n < 1 or side % n]
        undivided = f"needs grids that divide images of {side} pixels, not {grids} patches per side"
        if reason := needs_labels(context) or (undivided if grids else None):
            return reason
        check_fit(self.classifier, context)
        reason = needs_rgb(context) if self.names else None
        return reason and f"{reason}, or corruptions=[]"

    def forward_passes(self, context: EvalContext) -> float:
        gradients = len(self.radii) * (1 + self.pgd_steps)
        predictions = 1 + 2 * len(self.radii) + len(self.drop_shares) + len(self.shuffle_patches)
        passes = GRADIENT_PASSES * gradients + predictions + len(SEVERITIES) * len(self.names)
        images = context.num_images("val", self.num_images)
        return passes * images + fit_passes(self.classifier, context)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return "accuracy_<perturbation>" and the metrics of `summarize`, in %."""
        classifier = self.classifier(context)
        context.record(
            images=context.num_images("val", self.num_images),
            pgd_steps=self.pgd_steps,
            pgd_step_size=self.pgd_step_size,
            corruptions="computed on the preprocessed images",
        )
        pgd_args = {"steps": self.pgd_steps, "step_size": self.pgd_step_size}
        perturbations: dict[str, Perturbation | None] = {"clean": None}
        for radius in self.radii:
            perturbations[f"fgsm_{radius:g}"] = partial(fgsm, classifier, radius=radius / 255)
            perturbations[f"pgd_{radius:g}"] = partial(pgd, classifier, radius=radius / 255, **pgd_args)
        for share in self.drop_shares:
            perturbations[f"drop_{share:g}"] = _ignore_labels(drop_patches, share, self.drop_patches)
        for grid in self.shuffle_patches:
            perturbations[f"shuffle_{grid}"] = _ignore_labels(shuffle_patches, grid)
        corruptions = {
            f"{name}/{s}": _ignore_labels(corrupt, name, s) for name in self.names for s in SEVERITIES
        }
        measured = accuracies(classifier, perturbations | corruptions, context, self.num_images)
        if context.rank == 0:
            write_curves(measured, self.names, context.folder / "robustness")
        metrics = {f"accuracy_{name}": measured[name] for name in perturbations}
        return metrics | summarize(measured, self.names, self.baseline)


def _ignore_labels(function: Callable[..., Tensor], *args: Any) -> Perturbation:
    return lambda images, labels, generator: function(images, *args, generator)
