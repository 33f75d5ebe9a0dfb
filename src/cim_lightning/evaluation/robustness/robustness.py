"""Accuracy of a classifier on attacked, corrupted, occluded and shuffled images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from cim_lightning.checks import check_above, check_at_least, did_you_mean
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext, FitClassifier
from cim_lightning.evaluation.corruptions.catalog import CORRUPTIONS, SEVERITIES, corrupt
from cim_lightning.evaluation.robustness.accuracy import Perturbation, accuracies
from cim_lightning.evaluation.robustness.attacks import fgsm, pgd
from cim_lightning.evaluation.robustness.corruption_error import CorruptionBaseline, summarize
from cim_lightning.evaluation.robustness.occlusion import drop_patches, shuffle_patches


@dataclass
class Robustness:
    """Accuracy under attacks, common corruptions, occlusion and patch shuffling.

    It writes robustness/corruptions.csv and robustness/severity.png into the context's folder.
    """

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
        _all_within("radii", self.radii, 255)
        check_at_least("pgd_steps", self.pgd_steps, 1)
        check_above("pgd_step_size", self.pgd_step_size, 0, suggest=0.25)
        _all_within("drop_shares", self.drop_shares, 1)
        self.names = list(CORRUPTIONS if self.corruptions is None else self.corruptions)
        for name in self.names:
            if name not in CORRUPTIONS:
                hint = did_you_mean(name, CORRUPTIONS)
                raise ConfigError("corruptions", self.names, f"{name} is no corruption", hint=hint)
        if self.baseline is not None:
            self.baseline.check(self.names)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return "accuracy_<perturbation>" (0..1) and the metrics of `summarize`."""
        classifier = self.classifier(context)
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
        metrics = {f"accuracy_{name}": measured[name] for name in perturbations}
        return metrics | summarize(measured, self.names, self.baseline, context.folder / "robustness")


def _ignore_labels(function: Callable[..., Tensor], *args: Any) -> Perturbation:
    return lambda images, labels, generator: function(images, *args, generator)


def _all_within(parameter: str, values: Sequence[float], high: float) -> None:
    if not all(0 <= value <= high for value in values):
        nearest = [min(max(value, 0), high) for value in values]
        raise ConfigError(parameter, list(values), f"must be in 0..{high:g}", suggest=nearest)
