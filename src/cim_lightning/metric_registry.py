"""The registry of metrics: titles, units, formats, and which direction is better.

Runs log a metric as `train/<name>` or `val/<name>`. Methods and evaluators declare theirs. Progress bar, tables,
plots and dashboards read it here; runs record their metrics, so that reports need no code of the method.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

PRETEXT, FEATURES, SPEED = "Pretext task", "Features", "Speed"  # sections of a dashboard
SECTIONS = (PRETEXT, FEATURES, SPEED)
BAR, TABLE, PLOT = "progress bar", "table at the end of a run", "plot on the report page"
COLUMN = "column of the comparison of runs"  # of evaluators' metrics; those of runs have one in TABLE
BASELINE = "_baseline"  # suffix of the values of the mean-map baseline


class Metric(NamedTuple):
    """A logged number.

    Args:
        name: logged name, without "train/", "val/" or the evaluator's name. In an evaluator's metric, each `*`
            stands for any text: "mean_k*" is the metric of every k.
        title: label of a table row or a plot; `*` is replaced by the text that it stands for in the name.
        section: section of a dashboard; None: not on dashboards.
        places: other places that show the metric: BAR, TABLE, PLOT or COLUMN.
        higher_is_better: None if neither direction is better.
        short: label of a table column; the title if empty.
        digits: digits after the point in tables.
        baseline: value of the mean-map baseline, or the name under which runs log it.
        splits: splits that a dashboard plots.
        unit: such as "%" or "s"; empty for a plain number.
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
    unit: str = ""

    @property
    def label(self) -> str:
        """Short title for columns and the progress bar."""
        return self.short or self.title

    @property
    def heading(self) -> str:
        """Label with the unit."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    @property
    def curves(self) -> tuple[str, ...]:
        """Logged names that a dashboard draws in one plot."""
        baseline = (f"val/{self.baseline}",) if isinstance(self.baseline, str) else ()
        return *(f"{split}/{self.name}" for split in self.splits), *baseline

    def text(self, value: float) -> str:
        """Format a value with its unit."""
        return f"{value:,.{self.digits}f} {self.unit}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields without the defaults, as plain values."""
        return {
            key: [*value] if isinstance(value, tuple) else value
            for key, value in self._asdict().items()
            if key not in self._field_defaults or value != self._field_defaults[key]
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Metric":
        """Return the metric of `to_dict`; fields of other versions are ignored."""
        known = {key: value for key, value in fields.items() if key in cls._fields}
        return cls(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in known.items()}
        )


_TRAIN, _BOTH = ("train",), ("train", "val")
METRICS: dict[str, Metric] = {}


def register(*metrics: Metric) -> None:
    """Add metrics to METRICS.

    Raises:
        ValueError: another metric has the same name.
    """
    for metric in metrics:
        if METRICS.setdefault(metric.name, metric) != metric:
            raise ValueError(f"the metric {metric.name} is registered already: {METRICS[metric.name]}")


register(
    Metric("loss", "loss", PRETEXT, (BAR, PLOT), False, splits=_BOTH),
    Metric("knn", "k-NN accuracy", FEATURES, (TABLE, PLOT), True, "k-NN", 1, unit="%"),
    Metric("knn_pooled", "k-NN accuracy, pooled", FEATURES, (TABLE, PLOT), True, "k-NN pooled", 1, unit="%"),
    Metric("skill", "correlation skill", PRETEXT, (BAR, TABLE, PLOT), True, "skill", baseline=0.0),
    Metric("iou", "IoU", PRETEXT, (TABLE,), True, baseline=f"iou{BASELINE}"),
    Metric("pointing", "pointing accuracy", PRETEXT, (TABLE,), True, baseline=f"pointing{BASELINE}"),
    Metric("effective_rank", "effective rank", FEATURES, (TABLE, PLOT), digits=1),
    Metric("target_entropy", "target entropy", PRETEXT, (BAR, TABLE, PLOT)),
    Metric("target_perplexity", "target perplexity", PRETEXT, (BAR, TABLE, PLOT), digits=1),
    Metric("feature_std", "standard deviation of features", FEATURES),
    Metric("images_per_s", "images per second", SPEED, (BAR,), True, "img/s", splits=_TRAIN),
    Metric("data_wait", "share of time waiting for data", SPEED, (BAR,), False, "wait", splits=_TRAIN),
    Metric("accuracy", "classification accuracy", higher_is_better=True, digits=1, unit="%"),
    Metric(f"best_iou{BASELINE}", "IoU of the mean-map baseline at its best threshold"),
    Metric("contrast", "contrastive loss", higher_is_better=False),
    Metric("lr", "learning rate"),
    Metric("momentum", "momentum of the target"),
    Metric("grad_norm", "gradient norm"),
)


def shown_in(place: str) -> list[Metric]:
    """Return the metrics of one place: BAR, TABLE or PLOT."""
    return [metric for metric in METRICS.values() if place in metric.places]


def by_section(metrics: Iterable[Metric] | None = None) -> dict[str, list[Metric]]:
    """Return the metrics (default: all registered ones) of each section of a dashboard."""
    metrics = [*(METRICS.values() if metrics is None else metrics)]
    return {name: [metric for metric in metrics if metric.section == name] for name in SECTIONS}


def find(name: str, declared: Iterable[Metric]) -> Metric:
    """Return the first declared metric that matches a name; for an unknown one, the name is its title."""
    for metric in declared:
        pattern = "(.+)".join(map(re.escape, metric.name.split("*")))
        if match := re.fullmatch(pattern, name):
            title, short = (_fill(text, match.groups()) for text in (metric.title, metric.short))
            return metric._replace(name=name, title=title, short=short)
    return Metric(name, name.replace("_", " "))


def _fill(text: str, parts: Iterable[str]) -> str:
    for part in parts:
        text = text.replace("*", part.replace("_", " "), 1)
    return text


def before_after(
    numbers: Mapping[str, Any], declared: Iterable[Metric] = ()
) -> Iterator[tuple[Metric, float | None, float, float | None]]:
    """Yield (metric, before training, after training, mean-map baseline); unknown metrics come last.

    Args:
        numbers: content of a `metrics.json`.
        declared: metrics besides the registered ones.
    """
    known = {metric.name: metric for metric in declared} | METRICS
    logged = [key.removeprefix("val/") for key in numbers if key.startswith("val/")]
    for name in dict.fromkeys([*known, *logged]):
        if name in logged and not name.endswith(BASELINE):
            metric = known.get(name, Metric(name, name))
            base = metric.baseline
            baseline = numbers.get(f"val/{base}") if isinstance(base, str) else base
            yield metric, numbers.get(f"initial/{name}"), numbers[f"val/{name}"], baseline
