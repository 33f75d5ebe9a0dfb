"""Figure of results against the cost of training, as plotly's JSON (see plots.py)."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

from cim_lightning.report.columns import ONLINE_KNN, Column
from cim_lightning.report.comparison import Comparison
from cim_lightning.report.cost_curves import (
    Point,
    final_point,
    frontier,
    total_costs,
    training_points,
)
from cim_lightning.report.curves import AXES, read_curves
from cim_lightning.report.lengths import Series, series
from cim_lightning.report.plots import COLORS, LAYOUT, ROW
from cim_lightning.report.runs import Run

AXIS = "TFLOP"  # at first; all settings of a comparison may have the same
GRAY = "#888888"
LOG_RANGE = 4  # a logarithmic axis, if the largest cost is as many times the smallest


def costs(runs: Sequence[Run]) -> str | None:
    """Plot one row per result against the cost of training; None without a run that recorded it.

    The points of every axis are in the `meta` of a trace, where the page finds those of the chosen axis.

    Args:
        runs: finished.
    """
    grouped, goals = series(runs), Comparison(runs).goals
    columns = dict.fromkeys([ONLINE_KNN, *goals])  # only the first has values during training, too
    rows = [(column, traces) for column in columns if (traces := _row(grouped, column))]
    if not rows:
        return None
    from plotly.subplots import make_subplots

    n, titles = len(rows), [f"<b>{html.escape(column.title)}</b>" for column, _ in rows]
    figure = make_subplots(n, 1, shared_xaxes=True, vertical_spacing=0.16 / n, subplot_titles=titles)
    figure.update_annotations(x=0, xanchor="left", font_size=12)
    in_legend = set()
    for row, (_, traces) in enumerate(rows, 1):
        for trace in traces:
            shown = trace.get("hoverinfo") != "skip" and trace["legendgroup"] not in in_legend
            in_legend |= {trace["legendgroup"]} if shown else set()
            figure.add_scatter(**trace, showlegend=shown, row=row, col=1)
    figure.update_layout(
        LAYOUT,
        height=ROW * n + 110,
        margin={"l": 48, "r": 8, "t": 24, "b": 48},
        legend={"orientation": "h", "x": 0, "y": 1.03, "yanchor": "bottom"},
        hoverlabel={"namelength": -1},
    )
    spent = [cost for _, traces in rows for trace in traces for cost in trace["x"]]
    log: dict[str, Any] = {"type": "log", "dtick": "D2"} if max(spent) > LOG_RANGE * min(spent) else {}
    figure.update_xaxes(zeroline=False, **log)
    figure.update_yaxes(zeroline=False, nticks=5)
    return figure.to_json()  # escapes <, so that nothing can close a script element


def _row(grouped: Series, column: Column) -> list[dict[str, Any]]:
    """Return the traces of a result, the frontier first; none if no training has a result and a cost."""
    trained = [
        run for groups in grouped.groups.values() for group in groups for run in group if _trained(run)
    ]
    best = {axis: frontier(trained, column, axis) for axis in AXES}
    if not best[AXIS][0]:
        return []
    gray = {"mode": "lines", "line": {"color": GRAY, "width": 1, "shape": "hv"}}
    traces = [_trace("best run", {axis: _xy(*points) for axis, points in best.items()}, **gray)]
    for i, (name, groups) in enumerate(grouped.groups.items()):
        color = COLORS[i % len(COLORS)]
        found = [point for group in groups if (point := final_point(group, column)) is not None]
        points = sorted(found, key=lambda point: point.costs.get(AXIS, 0.0))  # a line in this order
        if points and not any(_trained(run) for group in groups for run in group):
            traces.append(_untrained(name, points, trained, color))
            continue
        if points:
            final = _final(name, points, color, "lines+markers" if grouped.connected else "markers")
            traces += [final, _dots(name, groups, column, color)]
        for group in groups:
            traces += _during(name, group, column, color)
    return traces


def _final(name: str, points: Sequence[Point], color: str, mode: str) -> dict[str, Any]:
    style = {"mode": mode, "line": {"color": color, "width": 2}, "marker": {"size": 8}}
    return _trace(name, _by_axis(points), **style, error_y=_range(points, color), hovertemplate=_hover(name))


def _dots(name: str, groups: Iterable[Sequence[Run]], column: Column, color: str) -> dict[str, Any]:
    """Return one dot per run."""
    found = [point for group in groups for run in group if (point := final_point([run], column)) is not None]
    marker = {"size": 4, "color": color, "opacity": 0.5}
    return _trace(name, _by_axis(found), mode="markers", marker=marker, hoverinfo="skip")


def _during(name: str, runs: Sequence[Run], column: Column, color: str) -> list[dict[str, Any]]:
    """Return the mean over runs with equally many measurements during training, if there are several."""
    by_count: dict[int, list[tuple[Run, Any]]] = {}
    for run in runs:
        curve = read_curves(run.folder / "metrics.csv").get(column.name) if column.name else None
        if curve is not None and _trained(run):
            by_count.setdefault(len(curve.steps), []).append((run, curve))
    traces = []
    for pairs in by_count.values():
        points = training_points(*zip(*pairs, strict=True))
        if len(points) > 1:
            style = {"mode": "lines", "line": {"color": color, "width": 1}, "opacity": 0.7}
            error = _range(points, color)
            traces.append(_trace(name, _by_axis(points), **style, error_y=error, hovertemplate=_hover(name)))
    return traces


def _untrained(name: str, points: Sequence[Point], trained: Sequence[Run], color: str) -> dict[str, Any]:
    """Return a horizontal line over all costs, because no cost is at 0 of a logarithmic axis."""
    mean = sum(point.mean for point in points) / len(points)
    spent: dict[str, list[float]] = {}
    for run in trained:
        for axis, cost in total_costs(run).items():
            spent.setdefault(axis, []).append(cost)
    lines = {axis: _xy([min(costs), max(costs)], [mean, mean]) for axis, costs in spent.items()}
    style = {"mode": "lines", "line": {"color": color, "width": 1, "dash": "dash"}}
    return _trace(name, lines, **style, hovertemplate=_hover(name))


def _trained(run: Run) -> bool:
    return bool(run.numbers.get("steps")) and bool(run.numbers.get("images_seen"))


def _by_axis(points: Sequence[Point]) -> dict[str, dict[str, list[float]]]:
    """Return the means of the points by axis, if all points have the cost."""
    axes = [axis for axis in AXES if all(axis in point.costs for point in points)]
    return {axis: _xy([p.costs[axis] for p in points], [p.mean for p in points]) for axis in axes}


def _range(points: Sequence[Point], color: str) -> dict[str, Any]:
    up, down = [p.high - p.mean for p in points], [p.mean - p.low for p in points]
    return {"array": up, "arrayminus": down, "color": color, "thickness": 1, "width": 2}


def _trace(name: str, points: dict[str, dict[str, list[float]]], **style: Any) -> dict[str, Any]:
    title = html.escape(name)
    return {
        **points.get(AXIS, _xy([], [])),
        "name": title,
        "legendgroup": title,
        "meta": {"points": points},
        **style,
    }


def _xy(x: Sequence[float], y: Sequence[float]) -> dict[str, list[float]]:
    return {"x": [*x], "y": [*y]}


def _hover(name: str) -> str:
    return f"%{{y:.4g}} at %{{x:.4g}}<extra>{html.escape(name)}</extra>"
