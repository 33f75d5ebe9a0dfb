"""The registry of metrics: titles, units, formats, and which direction is better.

Runs log a metric as `train/<name>` or `val/<name>`. Methods and evaluators declare theirs. Progress bar,
tables, plots and dashboards read it here. Runs record their metrics, so that reports need no code of theirs.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

PRETEXT, FEATURES, SPEED = "Pretext task", "Features", "Speed"  # sections of a dashboard
SECTIONS = (PRETEXT, FEATURES, SPEED)
# Places: the progress bar, the table at the end of a run, plots and columns of the report.
BAR, TABLE, PLOT, COLUMN = "bar", "table", "plot", "column"
EVERYWHERE = (BAR, TABLE, PLOT, COLUMN)
BASELINE = "_baseline"  # suffix of the values of the mean-map baseline


class Metric(NamedTuple):
    """A logged number.

    Args:
        name: logged name, without "train/", "val/" or the evaluator's name. In an evaluator's metric, `*`
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
        validation_only: whether it is not logged in training.
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
    validation_only: bool = False

    @property
    def label(self) -> str:
        """Short title for columns and the progress bar."""
        return self.short or self.title

    def with_unit(self, text: str) -> str:
        """Append the unit to a title or label."""
        return f"{text}, {self.unit}" if self.unit else text

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
        known: dict[str, Any] = {key: fields[key] for key in cls._fields if key in fields}
        known |= {key: tuple(value) for key, value in known.items() if isinstance(value, list)}
        return cls(**known)


METRICS: dict[str, Metric] = {}


def register(*metrics: Metric) -> None:
    """Add metrics to METRICS.

    Raises:
        ValueError: another metric has the same name.
    """
    for metric in metrics:
        if METRICS.setdefault(metric.name, metric) != metric:
            raise ValueError(f"the metric {metric.name} is registered already: {METRICS[metric.name]}")


_TRAIN, _BOTH = ("train",), ("train", "val")
_COMMON = (  # to the runs of all methods
    Metric("loss", "loss", PRETEXT, (BAR, PLOT), False, splits=_BOTH),
    Metric("knn", "k-NN accuracy", FEATURES, (TABLE, PLOT), True, "k-NN", 1, unit="%"),
    Metric("knn_pooled", "k-NN accuracy, pooled", FEATURES, (TABLE, PLOT), True, "k-NN pooled", 1, unit="%"),
    Metric("effective_rank", "effective rank", FEATURES, (TABLE, PLOT, COLUMN), digits=1),
    Metric("feature_std", "standard deviation of features", FEATURES),
    Metric("images_per_s", "images per second", SPEED, (BAR,), True, "img/s", splits=_TRAIN),
    Metric("data_wait", "share of time waiting for data", SPEED, (BAR,), False, "wait", splits=_TRAIN),
    Metric("lr", "learning rate"),
    Metric("momentum", "momentum of the target"),
    Metric("grad_norm", "gradient norm"),
)
register(*_COMMON)


def declared() -> list[Metric]:
    """Return the registered metrics that only some methods, or other code, log."""
    return [metric for metric in METRICS.values() if metric not in _COMMON]


def shown_in(place: str) -> list[Metric]:
    """Return the registered metrics of one place: BAR, TABLE, PLOT or COLUMN, sorted by section."""
    return [metric for metric in by_section_order(METRICS.values()) if place in metric.places]


def by_section_order(metrics: Iterable[Metric]) -> list[Metric]:
    """Sort metrics by section; those without one come last."""
    return sorted(metrics, key=lambda metric: (*SECTIONS, None).index(metric.section))


def by_section() -> dict[str, list[Metric]]:
    """Return the registered metrics of each section of a dashboard."""
    return {name: [metric for metric in METRICS.values() if metric.section == name] for name in SECTIONS}


def find(name: str, metrics: Iterable[Metric]) -> Metric:
    """Return the first metric whose name matches; for an unknown one, the name is its title."""
    for metric in metrics:
        pattern = "(.+)".join(map(re.escape, metric.name.split("*")))
        if match := re.fullmatch(pattern, name):
            title, short = (_fill(text, match.groups()) for text in (metric.title, metric.short))
            return metric._replace(name=name, title=title, short=short)
    return Metric(name, name.replace("_", " "))


def before_after(
    numbers: Mapping[str, Any], metrics: Iterable[Metric] | None = None
) -> Iterator[tuple[Metric, float | None, float, float | None]]:
    """Yield (metric, before training, after training, mean-map baseline), sorted by section.

    Args:
        numbers: content of a `metrics.json`.
        metrics: that the run declares; None: the registered ones. Unknown metrics come last.
    """
    known = {metric.name: metric for metric in (METRICS.values() if metrics is None else metrics)}
    logged = [key.removeprefix("val/") for key in numbers if key.startswith("val/")]
    unknown = [Metric(name, name) for name in logged if name not in known and not name.endswith(BASELINE)]
    for metric in (*by_section_order(known.values()), *unknown):
        if metric.name in logged and not metric.name.endswith(BASELINE):
            base = metric.baseline
            baseline = numbers.get(f"val/{base}") if isinstance(base, str) else base
            yield metric, numbers.get(f"initial/{metric.name}"), numbers[f"val/{metric.name}"], baseline


def _fill(text: str, parts: Iterable[str]) -> str:
    for part in parts:
        text = text.replace("*", part.replace("_", " "), 1)
    return text
