"""Figures of plotly's, as JSON; the page colors their text and lines, as it is light or dark.

plotly takes a while to import, so that it is where a figure is drawn.
"""

import html
from collections.abc import Sequence
from typing import Any

from cim_lightning.report.comparison import compare, goals
from cim_lightning.report.config_diff import ABSENT
from cim_lightning.report.curves import Curve, read_curves, step_costs, thinned
from cim_lightning.report.runs import Run, differing, grouped

MEASURES = {  # as logged, and as told
    "loss": "loss",
    "skill": "skill",
    "knn": "k-NN accuracy",
    "knn_pooled": "k-NN accuracy, pooled",
    "effective_rank": "effective rank",
}
COLORS = ["#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2"]
COLORS += ["#b279a2", "#ff9da6", "#9d755d", "#bab0ac", "#eeca3b"]
EARLY = 0.2  # of a run
ROW = 230  # pixels a measure
AXIS = 105  # pixels between two parallel coordinates


def curves(runs: Sequence[Run]) -> str | None:
    """A row a measure over one axis of steps, a line a run; training thin, validation with points.

    Every line brings what a step cost its run (`meta.costs`), so that a page can turn steps into images,
    FLOPs or seconds. None if nothing was logged.
    """
    logged = {run.folder: read_curves(run.folder / "metrics.csv") for run in runs}
    there = {name for columns in logged.values() for name in columns}
    measures = [name for name in MEASURES if {f"train/{name}", f"val/{name}"} & there]
    if not measures:
        return None
    from plotly.subplots import make_subplots

    figure = make_subplots(len(measures), 1, shared_xaxes=True, vertical_spacing=0.16 / len(measures))
    for i, (name, some) in enumerate(grouped(runs).items()):
        in_legend = True
        for run in some:
            for row, measure in enumerate(measures, 1):
                for part in ("val", "train"):  # the first stands in the legend
                    curve = logged[run.folder].get(f"{part}/{measure}")
                    if curve is not None:
                        line = _line(run, name, part, thinned(curve), COLORS[i % len(COLORS)])
                        figure.add_scatter(**line, showlegend=in_legend, row=row, col=1)
                        in_legend = False
    for row, measure in enumerate(measures, 1):
        drawn = [columns.get(f"{part}/{measure}") for columns in logged.values() for part in ("val", "train")]
        figure.update_yaxes(range=_window([curve for curve in drawn if curve is not None]), row=row)
        figure.add_annotation(
            text=f"<b>{MEASURES[measure]}</b>", xref="paper", yref=f"y{'' if row == 1 else row} domain",
            x=0, y=1, xanchor="left", yanchor="bottom", showarrow=False,
        )  # fmt: skip
    figure.update_layout(
        template="none",
        height=ROW * len(measures) + 110,
        margin={"l": 48, "r": 8, "t": 24, "b": 48},
        legend={"orientation": "h", "x": 0, "y": 1.03, "yanchor": "bottom"},
        hoverlabel={"namelength": -1},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    figure.update_xaxes(zeroline=False)
    figure.update_yaxes(zeroline=False, nticks=5)
    return _json(figure)


def coordinates(runs: Sequence[Run]) -> str | None:
    """Parallel coordinates, a line a run: what was swept, then what came out; None of runs of one setting.

    Measures that some of the runs lack are left out, and all is left out where none remains.
    """
    asked = _asked(runs)
    outcomes = [(column, [column.of(run) for run in runs]) for column in goals(compare(runs))]
    outcomes = [(column, values) for column, values in outcomes if None not in values]
    if not asked or not outcomes:
        return None
    from plotly.graph_objects import Figure, Parcoords

    dimensions = [_dimension(key, values) for key, values in asked.items()]
    dimensions += [
        {"label": html.escape(column.title), "values": values, "tickformat": f".{column.digits}f"}
        for column, values in outcomes
    ]
    scale = [[0, COLORS[0]], [0.5, COLORS[5]], [1, COLORS[1]]]
    color = {"color": outcomes[0][1], "colorscale": scale}
    ends = {"size": 1, "color": "rgba(0,0,0,0)"}  # they would lie over the labels
    figure = Figure(Parcoords(dimensions=dimensions, line=color, labelangle=-14, rangefont=ends))
    figure.update_layout(
        template="none",
        height=380,
        margin={"l": 80, "r": 50, "t": 64, "b": 20},
        meta={"width": AXIS * len(dimensions)},
        paper_bgcolor="rgba(0,0,0,0)",
    )
    return _json(figure)


def _window(some: list[Curve]) -> list[float] | None:
    """Where to look at first, if the fall from an untrained network's values would flatten all the rest."""
    whole = [value for curve in some for value in curve.values]
    last = max(curve.steps[-1] for curve in some)
    settled = [
        value
        for curve in some
        for step, value in zip(*curve, strict=True)
        if step > EARLY * last or step == last
    ]
    low, high = min(settled), max(settled)
    if high == low or max(whole) - min(whole) < 3 * (high - low):
        return None
    return [low - 0.08 * (high - low), high + 0.08 * (high - low)]


def _line(run: Run, name: str, part: str, curve: Curve, color: str) -> dict[str, Any]:
    training = part == "train"
    seed = "" if run.finished else ", unfinished"
    about = f"{html.escape(name)}, seed {run.seed}{seed}"
    return {
        "x": curve.steps,
        "y": curve.values,
        "mode": "lines" if training else "lines+markers",
        "line": {"color": color, "width": 1 if training else 2, "dash": "solid" if run.finished else "dot"},
        "opacity": 0.45 if training else 1,
        "marker": {"size": 5},
        "name": html.escape(name),
        "legendgroup": name,
        "meta": {"costs": step_costs(run), "steps": curve.steps},
        "hovertemplate": f"%{{y:.4g}} at %{{x:.4g}}<br>{about}<extra>{part}</extra>",
    }


def _asked(runs: Sequence[Run]) -> dict[str, list[str]]:
    """What was swept, by the shortest name that tells it from the others: a value a run."""
    keys = differing(runs)
    if keys and set(keys) <= {"compare", "method"}:
        return {"method": [str(run.choices["method"]) for run in runs]}
    last = [key.rpartition(".")[2] for key in keys]
    names = [short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)]
    return {
        name: [run.overrides.get(key, ABSENT) for run in runs] for key, name in zip(keys, names, strict=True)
    }


def _dimension(label: str, values: list[str]) -> dict[str, Any]:
    """A coordinate of numbers if all values are; else one of names, in the order in which they come."""
    label = html.escape(label)
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        names = list(dict.fromkeys(values))
        places = [names.index(value) for value in values]
        ticks = {"tickvals": list(range(len(names))), "ticktext": [html.escape(name) for name in names]}
        return {"label": label, "values": places, **ticks}
    ticks = sorted(set(numbers))
    return {"label": label, "values": numbers} | ({"tickvals": ticks} if len(ticks) <= 8 else {})


def library() -> str:
    """plotly.js, whole."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _json(figure: Any) -> str:
    return figure.to_json()  # in which < is written so that nothing closes a script element
