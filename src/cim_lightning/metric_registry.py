"""The registry of metrics: titles, formats, and which direction is better.

Runs log a metric as `train/<name>` or `val/<name>`. Progress bar, tables, plots and dashboards read it here.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

PRETEXT, FEATURES, SPEED = "Pretext task", "Features", "Speed"  # sections of a dashboard
BAR, TABLE, PLOT = "progress bar", "table at the end of a run", "plot on the report page"
BASELINE = "_constant"  # suffix of the values of the mean-map baseline


class Metric(NamedTuple):
    """A logged number.

    Args:
        name: logged name, without "train/" or "val/".
        title: label of a table row or a plot.
        section: section of a dashboard; None: not on dashboards.
        places: other places that show the metric: BAR, TABLE or PLOT.
        higher_is_better: None if neither direction is better.
        short: label of a table column; the title if empty.
        digits: digits after the point in a table column.
        baseline: value of the mean-map baseline, or the name under which runs log it.
        splits: splits that a dashboard plots.
    """

    name: str
    title: str
    section: str | None = None
    places: tuple[str, ...] = ()
    higher_is_better: bool | None = None
    short: str = ""
    digits: int = 3
    baseline: float | str | None = None
    splits: tuple[str, ...] = ("val",)

    @property
    def label(self) -> str:
        """Short title for columns and the progress bar."""
        return self.short or self.title

    @property
    def curves(self) -> tuple[str, ...]:
        """Logged names that a dashboard draws in one plot."""
        baseline = (f"val/{self.baseline}",) if isinstance(self.baseline, str) else ()
        return *(f"{split}/{self.name}" for split in self.splits), *baseline


_TRAIN, _BOTH = ("train",), ("train", "val")
_REGISTERED = (
    Metric("loss", "loss", PRETEXT, (BAR, PLOT), False, splits=_BOTH),
    Metric("knn", "k-NN accuracy", FEATURES, (TABLE, PLOT), True, "k-NN", 1),
    Metric("knn_pooled", "k-NN accuracy, pooled", FEATURES, (TABLE, PLOT), True, "k-NN pooled", 1),
    Metric("skill", "correlation skill", PRETEXT, (BAR, TABLE, PLOT), True, "skill", baseline=0.0),
    Metric("iou", "IoU", PRETEXT, (TABLE,), True, baseline=f"iou{BASELINE}"),
    Metric("pointing", "pointing accuracy", PRETEXT, (TABLE,), True, baseline=f"pointing{BASELINE}"),
    Metric("effective_rank", "effective rank", FEATURES, (TABLE, PLOT), digits=1),
    Metric("target_entropy", "target entropy", PRETEXT, (BAR, TABLE, PLOT)),
    Metric("target_perplexity", "target perplexity", PRETEXT, (BAR, TABLE, PLOT), digits=1),
    Metric("feature_std", "standard deviation of features", FEATURES),
    Metric("images_per_s", "images per second", SPEED, (BAR,), True, "img/s", splits=_TRAIN),
    Metric("data_wait", "share of time waiting for data", SPEED, (BAR,), False, "wait", splits=_TRAIN),
    Metric("accuracy", "classification accuracy", higher_is_better=True),
    Metric("auc", "area under ROC", higher_is_better=True, baseline=f"auc{BASELINE}"),
    Metric("contrast", "contrastive loss", higher_is_better=False),
    Metric("lr", "learning rate"),
    Metric("momentum", "momentum of the target"),
    Metric("grad_norm", "gradient norm"),
    Metric("iou_constant", "IoU of the mean-map baseline"),
    Metric("best_iou_constant", "IoU of the mean-map baseline at its best threshold"),
    Metric("pointing_constant", "pointing accuracy of the mean-map baseline"),
)
METRICS = {metric.name: metric for metric in _REGISTERED}


def shown_in(place: str) -> list[Metric]:
    """Return the metrics of one place: BAR, TABLE or PLOT."""
    return [metric for metric in _REGISTERED if place in metric.places]


def by_section() -> dict[str, list[Metric]]:
    """Return the metrics of each section of a dashboard."""
    sections = (PRETEXT, FEATURES, SPEED)
    return {name: [metric for metric in _REGISTERED if metric.section == name] for name in sections}


def before_after(numbers: Mapping[str, Any]) -> Iterator[tuple[Metric, float | None, float, float | None]]:
    """Yield (metric, before training, after training, mean-map baseline); unregistered metrics come last.

    Args:
        numbers: content of a `metrics.json`.
    """
    logged = [key.removeprefix("val/") for key in numbers if key.startswith("val/")]
    for name in dict.fromkeys([*METRICS, *logged]):
        if name in logged and not name.endswith(BASELINE):
            metric = METRICS.get(name, Metric(name, name))
            base = metric.baseline
            baseline = numbers.get(f"val/{base}") if isinstance(base, str) else base
            yield metric, numbers.get(f"initial/{name}"), numbers[f"val/{name}"], baseline
