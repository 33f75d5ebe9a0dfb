"""Accuracies by corruption and severity, and errors relative to those of a baseline (mCE).

Source: Hendrycks and Dietterich, ICLR 2019, section 4.1.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure  # not pyplot, which has global state and may open a window

from cim_lightning.atomic import atomic_write, read_json
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.corruptions.catalog import CORRUPTIONS, SEVERITIES
from cim_lightning.evaluation.robustness.accuracy import percentage

log = logging.getLogger(__name__)

Errors = Mapping[str, Sequence[float]]  # in %, one per severity, by corruption

SUMMARY_METRICS = (
    percentage("accuracy_clean", "accuracy on clean images"),
    percentage("accuracy_severity_*", "accuracy at severity *"),
    percentage("mean_error_corrupted", "mean error on corrupted images", False),
    percentage("mce", "mean corruption error, relative to the baseline (mCE)", False),
    percentage("relative_mce", "relative mCE", False),
    percentage("error_*", "error under *", False),
)


@dataclass(frozen=True)
class CorruptionBaseline:
    """Errors in % of the reference classifier."""

    name: str  # of the classifier and its data
    clean: float  # error on clean images
    errors: Mapping[str, float]  # mean error over all severities, by corruption
    classes: int | None = None  # number of classes of the data; None: any number

    def check(self, corruptions: Iterable[str]) -> None:
        """Raise ConfigError if an error, which becomes a denominator, is missing or 0."""
        for name in corruptions:
            if not 0 < self.errors.get(name, 0) <= 100:
                rule = (
                    f"needs an error under {name}, above 0 and at most 100 % (here: {self.errors.get(name)})"
                )
                raise ConfigError("baseline", self.name, rule, hint=f"leave {name} out of the corruptions")

    def mce(self, errors: Errors) -> float:
        """Return the mean corruption error (mCE): the mean ratio to the baseline's errors, in percent.

        Severities are averaged before the division, as in the paper.
        """
        self.check(errors)
        return fmean(100 * fmean(values) / self.errors[name] for name, values in errors.items())

    def relative_mce(self, errors: Errors, clean: float) -> float | None:
        """Return the relative mCE: the same after subtracting the error on clean images (`clean`, in %).

        None if a corruption adds no error to the baseline.
        """
        self.check(errors)
        added = {name: self.errors[name] - self.clean for name in errors}
        if min(added.values()) <= 0:
            return None
        return fmean(100 * (fmean(values) - clean) / added[name] for name, values in errors.items())


def summarize(
    accuracies: Mapping[str, float], corruptions: Sequence[str], baseline: CorruptionBaseline | None
) -> dict[str, float]:
    """Return errors by corruption, accuracies by severity, and mCE, all in %.

    Args:
        accuracies: in %, as "clean" and "<corruption>/<severity>".
    """
    if not corruptions:
        return {}
    errors = {name: [100 - accuracies[f"{name}/{s}"] for s in SEVERITIES] for name in corruptions}
    metrics = {f"error_{name}": fmean(values) for name, values in errors.items()}
    for s in SEVERITIES:
        metrics[f"accuracy_severity_{s}"] = fmean(accuracies[f"{name}/{s}"] for name in corruptions)
    metrics["mean_error_corrupted"] = fmean(map(fmean, errors.values()))
    if baseline is not None:
        metrics["mce"] = baseline.mce(errors)
        relative = baseline.relative_mce(errors, 100 - accuracies["clean"])
        if relative is None:
            log.warning("no relative mCE: some corruptions add no error to %s", baseline.name)
        else:
            metrics["relative_mce"] = relative
    return metrics


def write_curves(accuracies: Mapping[str, float], corruptions: Sequence[str], folder: Path) -> None:
    """Write corruptions.csv and severity.png, with the clean accuracy as severity 0.

    Args:
        accuracies: see `summarize`.
    """
    clean = accuracies["clean"]
    curves = {name: [clean, *(accuracies[f"{name}/{s}"] for s in SEVERITIES)] for name in corruptions}
    rows = [f"{name},{s},{value}\n" for name, curve in curves.items() for s, value in enumerate(curve)]
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / "corruptions.csv", "corruption,severity,accuracy\n" + "".join(rows))
    draw(curves).savefig(folder / "severity.png", dpi=120)


def draw(curves: Mapping[str, Sequence[float]]) -> Figure:
    """Plot the accuracies in % of each corruption over the severity (0 to 5), and their mean."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for i, (name, curve) in enumerate(curves.items()):
        style = ("-", "--", ":")[i // 10 % 3]
        axes.plot(curve, style, color=f"C{i % 10}", lw=1, label=name.replace("_", " "))
    if curves:
        axes.plot(np.mean(list(curves.values()), axis=0), color="black", lw=3, label="mean")
        figure.legend(loc="outside right upper", fontsize=8)
    axes.set(xlabel="severity", ylabel="accuracy (%)", ylim=(0, 100), xticks=range(6))
    axes.grid(alpha=0.3)
    return figure


def alexnet() -> CorruptionBaseline:
    """AlexNet on ImageNet-C, the baseline of the paper; valid for no other data.

    The clean error is from table 1 of the paper. The corruption errors, which are 100 % there by definition,
    are the unnormalized ones that the authors published with the data set.
    """
    noise = (88.6428, 89.4468, 92.2640)
    blur = (81.9880, 82.6268, 78.5948, 79.8360)
    weather = (86.6816, 82.6572, 81.9324, 56.4592)
    digital = (85.3204, 64.6056, 71.7840, 60.6500)
    errors = dict(zip(CORRUPTIONS, noise + blur + weather + digital, strict=True))
    return CorruptionBaseline("AlexNet on ImageNet-C", 43.5, errors, classes=1000)


def from_metrics(path: str, evaluator: str) -> CorruptionBaseline:
    """Return the errors in a `metrics.json`, of the evaluator "robustness" or "imagenet_c"."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError("path", path, "no such file", hint="give the metrics.json of an evaluation")
    metrics, prefix = read_json(file), f"{evaluator}/error_"
    errors = {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}
    if not errors:
        raise ConfigError("path", path, f"has no corruption errors of the evaluator {evaluator}")
    if evaluator not in metrics.get("protocol", {}):  # versions without it wrote errors in 0..1
        raise ConfigError("path", path, "was written by an older version", hint="run that evaluation again")
    return CorruptionBaseline(path, 100 - metrics[f"{evaluator}/accuracy_clean"], errors)
