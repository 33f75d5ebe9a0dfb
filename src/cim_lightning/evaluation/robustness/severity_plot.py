"""Accuracy against severity, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure  # without pyplot: nothing global, no window


def severity_plot(table: Mapping[str, Sequence[float]], clean: float, path: Path) -> None:
    """Writes a PNG: a thin line a corruption and their mean, from the clean accuracy at severity 0.

    Args:
        table: accuracies, 0..1, at severities 1, 2, ..., by corruption.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    lines = {name: [clean, *values] for name, values in table.items()}
    for i, (name, values) in enumerate(lines.items()):
        style = ("-", "--", ":")[i // 10 % 3]
        axes.plot(values, style, color=f"C{i % 10}", lw=1, label=name.replace("_", " "))
    if lines:
        axes.plot([fmean(v) for v in zip(*lines.values(), strict=True)], color="black", lw=3, label="mean")
    axes.set(xlabel="severity", ylabel="accuracy", ylim=(0, 1), xticks=range(6))
    axes.grid(alpha=0.3)
    if lines:
        figure.legend(loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=120)
