"""plotly figures as JSON; the page sets the colors of text and lines, for light and dark screens.

plotly is slow to import, so functions import it when they draw.
"""

import html
import itertools
from collections.abc import Sequence
from typing import Any

from cim_lightning.metric_registry import PLOT
from cim_lightning.report.comparison import Comparison
from cim_lightning.report.config_diff import ABSENT
from cim_lightning.report.curves import MAX_POINTS, Curve, evenly_spaced, read_curves, step_costs
from cim_lightning.report.runs import Run, differing_keys, group_by_setting, metrics_of

COLORS = ["#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2"]
COLORS += ["#b279a2", "#ff9da6", "#9d755d", "#bab0ac", "#eeca3b"]
SPLITS = ("val", "train")  # the first curve of a setting is in the legend
EARLY = 0.2  # share of a run
ROW = 230  # pixels per metric
AXIS = 105  # pixels between two parallel coordinates
CLEAR = "rgba(0,0,0,0)"
LAYOUT = {"template": "none", "paper_bgcolor": CLEAR, "plot_bgcolor": CLEAR}


def curves(runs: Sequence[Run]) -> str | None:
    """Plot one row per metric against steps; None if nothing was logged.

    The page converts steps into images, FLOPs or seconds with the costs in the `meta` of every line.
    """
    logged = {run.folder: read_curves(run.folder / "metrics.csv") for run in runs}
    names = {name for columns in logged.values() for name in columns}
    metrics = [metric for metric in metrics_of(runs) if PLOT in metric.places]
    metrics = [metric for metric in metrics if {f"{split}/{metric.name}" for split in SPLITS} & names]
    if not metrics:
        return None
    from plotly.subplots import make_subplots

    n, titles = len(metrics), [f"<b>{html.escape(m.with_unit(m.title))}</b>" for m in metrics]
    figure = make_subplots(n, 1, shared_xaxes=True, vertical_spacing=0.16 / n, subplot_titles=titles)
    figure.update_annotations(x=0, xanchor="left", font_size=12)
    rows = list(enumerate(metrics, 1))
    for i, (setting, group) in enumerate(group_by_setting(runs).items()):
        in_legend = True
        for run, (row, metric), split in itertools.product(group, rows, SPLITS):
            curve = logged[run.folder].get(f"{split}/{metric.name}")
            if curve is not None:
                line = _line(run, setting, split, curve, COLORS[i % len(COLORS)])
                figure.add_scatter(**line, showlegend=in_legend, row=row, col=1)
                in_legend = False
    for row, metric in rows:
        drawn = [columns.get(f"{split}/{metric.name}") for columns in logged.values() for split in SPLITS]
        figure.update_yaxes(range=_window([curve for curve in drawn if curve is not None]), row=row)
    figure.update_layout(
        LAYOUT,
        height=ROW * n + 110,
        margin={"l": 48, "r": 8, "t": 24, "b": 48},
        legend={"orientation": "h", "x": 0, "y": 1.03, "yanchor": "bottom"},
        hoverlabel={"namelength": -1},
    )
    figure.update_xaxes(zeroline=False)
    figure.update_yaxes(zeroline=False, nticks=5)
    return figure.to_json()  # escapes <, so that nothing can close a script element


def coordinates(runs: Sequence[Run]) -> str | None:
    """Plot parallel coordinates, one line per run: swept settings, then the results that all runs have.

    None for runs of one setting, or without a common result.
    """
    swept = _swept(runs)
    results = [(column, [column.value(run) for run in runs]) for column in Comparison(runs).goals]
    results = [(column, values) for column, values in results if None not in values]
    if not swept or not results:
        return None
    from plotly.graph_objects import Figure, Parcoords

    dimensions = [_dimension(key, values) for key, values in swept.items()]
    for column, values in results:
        label = html.escape(column.title)
        dimensions.append({"label": label, "values": values, "tickformat": f".{column.digits}f"})
    scale = [[0, COLORS[0]], [0.5, COLORS[5]], [1, COLORS[1]]]
    color = {"color": results[0][1], "colorscale": scale}
    hidden = {"size": 1, "color": CLEAR}  # the range would cover the labels
    figure = Figure(Parcoords(dimensions=dimensions, line=color, labelangle=-14, rangefont=hidden))
    margin, meta = {"l": 80, "r": 50, "t": 64, "b": 20}, {"width": AXIS * len(dimensions)}
    figure.update_layout(LAYOUT, height=380, margin=margin, meta=meta)
    return figure.to_json()  # escapes <, so that nothing can close a script element


def library() -> str:
    """Return the source of plotly.js."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _window(curves: list[Curve]) -> list[float] | None:
    """Return a range of y that leaves out the first part of the runs, if it would flatten the rest."""
    points = [point for curve in curves for point in zip(*curve, strict=True)]
    last, values = max(step for step, _ in points), [value for _, value in points]
    late = [value for step, value in points if step > EARLY * last or step == last]
    low, high = min(late), max(late)
    if high == low or max(values) - min(values) < 3 * (high - low):
        return None
    return [low - 0.08 * (high - low), high + 0.08 * (high - low)]


def _line(run: Run, setting: str, split: str, curve: Curve, color: str) -> dict[str, Any]:
    training = split == "train"
    steps, values = (evenly_spaced(part, MAX_POINTS) for part in curve)
    about = f"{html.escape(setting)}, seed {run.seed}{'' if run.finished else ', unfinished'}"
    return {
        "x": steps,
        "y": values,
        "mode": "lines" if training else "lines+markers",
        "line": {"color": color, "width": 1 if training else 2, "dash": "solid" if run.finished else "dot"},
        "opacity": 0.45 if training else 1,
        "marker": {"size": 5},
        "name": html.escape(setting),
        "legendgroup": setting,
        "meta": {"costs": step_costs(run), "steps": steps},
        "hovertemplate": f"%{{y:.4g}} at %{{x:.4g}}<br>{about}<extra>{split}</extra>",
    }


def _swept(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the value of each run by swept key, shortened to its last part if that is unique."""
    keys = differing_keys(runs)
    if keys and set(keys) <= {"compare", "method"}:
        return {"method": [str(run.info["choices"]["method"]) for run in runs]}
    short = [key.rpartition(".")[2] for key in keys]
    names = {key: name if short.count(name) == 1 else key for key, name in zip(keys, short, strict=True)}
    return {name: [run.overrides.get(key, ABSENT) for run in runs] for key, name in names.items()}


def _dimension(label: str, values: list[str]) -> dict[str, Any]:
    """Return a coordinate: numeric if all values are numbers, else categories in order of appearance."""
    label = html.escape(label)
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        names = list(dict.fromkeys(values))
        ticks = {"tickvals": list(range(len(names))), "ticktext": [html.escape(name) for name in names]}
        return {"label": label, "values": [names.index(value) for value in values], **ticks}
    ticks = sorted(set(numbers))
    return {"label": label, "values": numbers} | ({"tickvals": ticks} if len(ticks) <= 8 else {})
