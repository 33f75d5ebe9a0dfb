"""What a probed classifier still gets right when its images are attacked, corrupted, hidden or shuffled."""

from collections.abc import Callable, Sequence

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.corruptions.catalog import CORRUPTIONS, SEVERITIES, corrupt
from cim_lightning.evaluation.robustness.accuracy import Change, accuracies, unchanged
from cim_lightning.evaluation.robustness.attacks import Classifier, fgsm, pgd
from cim_lightning.evaluation.robustness.corruption_error import CorruptionBaseline, check
from cim_lightning.evaluation.robustness.corruption_table import keep, summary
from cim_lightning.evaluation.robustness.occlusion import drop_patches, shuffle_patches


class Robustness:
    """The part "robustness": accuracy under attacks, common corruptions, occlusion and patch shuffling.

    Args:
        classifier: fits a classifier of images of 0..1 to a context.
        num_images: validation images; null: all.
        radii: of FGSM and PGD, in gray levels (255ths), 0..255.
        pgd_steps, pgd_step_size: see trials/attacks.py.
        corruptions: names of CORRUPTIONS; null: all fifteen.
        baseline: what corruption errors are divided by; null: they are reported as they are. There is no
            relative mCE beside a baseline that does not suffer from every corruption.
        drop_shares: shares of patches set to the mean, 0..1.
        drop_patches: patches a side of the grid that they are dropped from.
        shuffle_patches: patches a side of the grids that are shuffled.

    Leaves in the context's folder: robustness/corruptions.csv (accuracy of each corruption and severity) and
    robustness/severity.png.

    Raises:
        ConfigError: a corruption is not there, a radius not in 0..255, the baseline lacks a corruption; when
            called, whatever the parts above refuse.
    """

    def __init__(
        self,
        classifier: Callable[[EvalContext], Classifier],
        num_images: int | None,
        radii: Sequence[float],
        pgd_steps: int,
        pgd_step_size: float,
        corruptions: Sequence[str] | None,
        baseline: CorruptionBaseline | None,
        drop_shares: Sequence[float],
        drop_patches: int,
        shuffle_patches: Sequence[int],
    ):
        unknown = [name for name in corruptions or () if name not in CORRUPTIONS]
        if unknown:
            raise ConfigError(
                f"evaluation.robustness.corruptions={unknown}: no such corruption; "
                f"try {', '.join(CORRUPTIONS)}"
            )
        for radius in radii:
            if not 0 <= radius <= 255:
                nearest = min(max(radius, 0), 255)
                raise ConfigError(
                    f"evaluation.robustness.radii=[{radius}]: gray levels are of 0..255; try {nearest}"
                )
        self.classifier, self.num_images = classifier, num_images
        self.radii, self.pgd_steps, self.pgd_step_size = radii, pgd_steps, pgd_step_size
        self.corruptions = list(CORRUPTIONS) if corruptions is None else corruptions
        if baseline is not None:
            check(self.corruptions, baseline)
        self.baseline = baseline
        self.drop_shares, self.drop_patches, self.shuffle_patches = drop_shares, drop_patches, shuffle_patches

    def __call__(self, context: EvalContext) -> dict[str, float]:
        classifier = self.classifier(context)
        changes = {"clean": unchanged, **self._attacks(classifier), **_corrupted(self.corruptions)}
        found = accuracies(classifier, changes | self._occlusions(), context, "val", self.num_images)
        table = {name: [found[f"{name}_{s}"] for s in SEVERITIES] for name in self.corruptions}
        keep(table, found["clean"], context.folder / "robustness")
        hidden = {key for name in table for key in (f"{name}_{s}" for s in SEVERITIES)}
        numbers = {f"accuracy_{name}": value for name, value in found.items() if name not in hidden}
        return numbers | summary(table, found["clean"], self.baseline)

    def _attacks(self, classifier: Classifier) -> dict[str, Change]:
        changes: dict[str, Change] = {}
        for levels in self.radii:
            radius = levels / 255
            changes[f"fgsm_{levels:g}"] = lambda i, y, g, radius=radius: fgsm(classifier, i, y, radius)
            changes[f"pgd_{levels:g}"] = lambda i, y, g, radius=radius: pgd(
                classifier, i, y, radius, self.pgd_steps, self.pgd_step_size, g
            )
        return changes

    def _occlusions(self) -> dict[str, Change]:
        changes: dict[str, Change] = {}
        for share in self.drop_shares:
            changes[f"drop_{share:g}"] = lambda i, y, g, share=share: drop_patches(
                i, share, self.drop_patches, g
            )
        for grid in self.shuffle_patches:
            changes[f"shuffle_{grid}"] = lambda i, y, g, grid=grid: shuffle_patches(i, grid, g)
        return changes


def _corrupted(names: Sequence[str]) -> dict[str, Change]:
    return {
        f"{name}_{severity}": lambda i, y, g, name=name, severity=severity: corrupt(i, name, severity, g)
        for name in names
        for severity in SEVERITIES
    }
