"""Accuracy of a classifier on attacked, corrupted, occluded and shuffled images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cim_lightning.bounds import above, at_least, did_you_mean
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.corruptions.catalog import CORRUPTIONS, SEVERITIES, corrupt
from cim_lightning.evaluation.robustness.accuracy import Perturbation, accuracies, identity
from cim_lightning.evaluation.robustness.attacks import Classifier, fgsm, pgd
from cim_lightning.evaluation.robustness.corruption_error import CorruptionBaseline, CorruptionTable
from cim_lightning.evaluation.robustness.occlusion import drop_patches, shuffle_patches


@dataclass
class Robustness:
    """Accuracy under attacks, common corruptions, occlusion and patch shuffling.

    It writes robustness/corruptions.csv and robustness/severity.png into the context's folder.

    Args:
        classifier: fits a classifier of images in 0..1 to a context.
        num_images: maximum number of validation images; None: all.
        radii: of FGSM and PGD, in gray levels, 0..255.
        pgd_steps, pgd_step_size: see attacks.pgd.
        corruptions: keys of CORRUPTIONS; None: all fifteen.
        baseline: denominator of the corruption errors; None: no mCE.
        drop_shares: shares (0..1) of the patches to drop.
        drop_patches: patches per side of the grid for dropping.
        shuffle_patches: patches per side of the grids to shuffle.
    """

    classifier: Callable[[EvalContext], Classifier]
    num_images: int | None
    radii: Sequence[float]
    pgd_steps: int
    pgd_step_size: float
    corruptions: Sequence[str] | None
    baseline: CorruptionBaseline | None
    drop_shares: Sequence[float]
    drop_patches: int
    shuffle_patches: Sequence[int]

    def __post_init__(self) -> None:
        _all_within("radii", self.radii, 255)
        at_least("pgd_steps", self.pgd_steps, 1)
        above("pgd_step_size", self.pgd_step_size, 0, suggest=0.25)
        _all_within("drop_shares", self.drop_shares, 1)
        self.corruptions = list(CORRUPTIONS) if self.corruptions is None else list(self.corruptions)
        for name in self.corruptions:
            if name not in CORRUPTIONS:
                hint = did_you_mean(name, CORRUPTIONS)
                raise ConfigError("corruptions", self.corruptions, f"{name} is no corruption", hint=hint)
        if self.baseline is not None:
            self.baseline.check(self.corruptions)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return "accuracy_<perturbation>" (0..1) and the metrics of a CorruptionTable."""
        classifier = self.classifier(context)
        perturbations = self._perturbations(classifier)
        names = self.corruptions or ()
        corruptions = {f"{name}/{s}": _on_images(corrupt, name, s) for name in names for s in SEVERITIES}
        found = accuracies(classifier, perturbations | corruptions, context, self.num_images)
        table = CorruptionTable.collect(found, names)
        table.save(context.folder / "robustness")
        metrics = {f"accuracy_{name}": found[name] for name in perturbations}
        return metrics | table.metrics(self.baseline)

    def _perturbations(self, classifier: Classifier) -> dict[str, Perturbation]:
        """Everything but the corruptions, by name."""
        found: dict[str, Perturbation] = {"clean": identity}
        for radius in self.radii:
            found[f"fgsm_{radius:g}"], found[f"pgd_{radius:g}"] = self._attacks(classifier, radius / 255)
        for share in self.drop_shares:
            found[f"drop_{share:g}"] = _on_images(drop_patches, share, self.drop_patches)
        for grid in self.shuffle_patches:
            found[f"shuffle_{grid}"] = _on_images(shuffle_patches, grid)
        return found

    def _attacks(self, classifier: Classifier, radius: float) -> tuple[Perturbation, Perturbation]:
        steps, step_size = self.pgd_steps, self.pgd_step_size
        return (
            lambda images, labels, generator: fgsm(classifier, images, labels, radius),
            lambda images, labels, generator: pgd(
                classifier, images, labels, radius, steps, step_size, generator
            ),
        )


def _on_images(function: Callable[..., Any], *args: Any) -> Perturbation:
    """A perturbation that ignores the labels."""
    return lambda images, labels, generator: function(images, *args, generator)


def _all_within(parameter: str, values: Sequence[float], high: float) -> None:
    if not all(0 <= value <= high for value in values):
        nearest = [min(max(value, 0), high) for value in values]
        raise ConfigError(parameter, list(values), f"must be in 0..{high:g}", suggest=nearest)
