"""One HTML page about runs, which needs nothing beside it and no network."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from cim_lightning.report import failures, panel_gallery, plots, provenance, tables
from cim_lightning.report.curves import AXES, step_costs
from cim_lightning.report.failures import Failure
from cim_lightning.report.markdown import unfinished
from cim_lightning.report.runs import Run, differing, grouped, matters, names

HERE = Path(__file__).parent
MOST_COMMANDS = 6  # at the top; every run has its own at the end
# A browser that keeps to this cannot ask a network for anything. plotly.js compiles its shaders' callers.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; "
    "script-src 'unsafe-inline' 'unsafe-eval'"
)


def page(title: str, runs: Sequence[Run], failed: Sequence[Failure] = ()) -> str:
    """The page, under a title; unfinished runs are listed, with their curves so far, and what failed."""
    figures: dict[str, str] = {}
    sections = [
        _section("What was asked", _asked(runs, failed)),
        _section("Results", _results(runs)),
        _section("Failed", _failed(runs, failed)),
        _section("Curves", _curves(runs, figures)),
        _section("Parallel coordinates", _coordinates(runs, figures)),
        _section("Correlation panels", panel_gallery.cards(runs)),
        _section("Settings that differ", tables.settings(runs) if len(runs) > 1 else None),
        _section("Runs", _runs(runs, failed)),
    ]
    library = plots.library() if figures else ""
    data = "".join(f'<script type="application/json" id="{k}-data">{v}</script>' for k, v in figures.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{(HERE / "page.css").read_text()}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{"".join(sections)}
</main>
<script>{library}</script>
{data}
<script>{(HERE / "page.js").read_text()}</script>
</body>
</html>
"""


def _section(title: str, body: str | None) -> str:
    return f"<section><h2>{title}</h2>{body}</section>\n" if body else ""


def _asked(runs: Sequence[Run], failed: Sequence[Failure]) -> str:
    counts = f"{_many(len(runs), 'run')} of {_many(len(grouped(runs)), 'setting')}"
    if begun := unfinished(runs, failed):
        counts += f", {len(begun)} of them unfinished"
    if failed:
        counts += f"; {_many(len(failed), 'job')} failed"
    varied = {key: _values(runs, key) for key in [*differing(runs), "seed"]}
    same = dict.fromkeys(f"{k}={v}" for run in runs for k, v in run.overrides.items() if matters(k))
    same = [one for one in same if one.partition("=")[0] not in varied]
    rows = [[escape(key), escape(", ".join(values))] for key, values in varied.items() if values]
    lines = [f"<p>{counts}.</p>", tables.table(["varied", "values"], rows, "words") if len(runs) > 1 else ""]
    if same and len(runs) > 1:
        lines.append(
            "<p>The same everywhere: " + " ".join(f"<code>{escape(one)}</code>" for one in same) + "</p>"
        )
    commands = [*dict.fromkeys(provenance.sweep_command(run) or provenance.command(run) for run in runs)]
    lines += [f"<pre>{escape(one)}</pre>" for one in commands[:MOST_COMMANDS]]
    if len(commands) > MOST_COMMANDS:
        lines.append("<p class='note'>And others: each stands at the end, under its run.</p>")
    return "".join(lines)


def _values(runs: Sequence[Run], key: str) -> list[str]:
    if key == "seed":
        return [str(seed) for seed in sorted({run.seed for run in runs})]
    return list(dict.fromkeys(run.overrides[key] for run in runs if key in run.overrides))


def _results(runs: Sequence[Run]) -> str:
    if not any(run.finished for run in runs):
        return "<p>No run is finished yet.</p>"
    note = "<p class='note'>Mean ± sample standard deviation over n runs; the best in bold.</p>"
    tested = tables.differences(runs)
    if tested is None:
        return tables.results(runs) + note
    how = (
        "<p class='note'>Difference from the best setting, with the two-sided p of a t-test: paired where "
        "both ran under the same seeds, else Welch's. Every p stands alone: it is not corrected for how many "
        "there are, nor for the best having been chosen by its result.</p>"
    )
    return tables.results(runs) + note + "<h3>Differences</h3>" + tested + how


def _failed(runs: Sequence[Run], failed: Sequence[Failure]) -> str:
    return "".join(
        f"<details><summary>{escape(line)}</summary><pre>{escape(one.trace)}</pre></details>"
        for line, one in zip(failures.lines(failed, runs), failed, strict=True)
    )


def _curves(runs: Sequence[Run], figures: dict[str, str]) -> str | None:
    figure = plots.curves(runs)
    if figure is None:
        return None
    figures["curves"] = figure
    known = [axis for axis in AXES if any(axis.name in step_costs(run) for run in runs)]
    choices = "".join(
        f'<label><input type="radio" name="axis" value="{axis.name}" data-title="{axis.title}"'
        f"{' checked' if i == 0 else ''}><span>{axis.name}</span></label>"
        for i, axis in enumerate(known)
    )
    note = (
        "Validation with points, training thin; a double click shows curves whole. A step counts what it "
        "cost on the average of its run. Losses of different methods are not of one kind."
    )
    if any(not run.finished for run in runs):
        note += " Unfinished runs are dotted; how many seconds they took is recorded at their end."
    return (
        f'<fieldset class="choice"><legend>against</legend>{choices}</fieldset>'
        f'<div class="plot" id="curves"></div><p class="note">{note}</p>'
    )


def _coordinates(runs: Sequence[Run], figures: dict[str, str]) -> str | None:
    figure = plots.coordinates([run for run in runs if run.finished])
    if figure is None:
        return None
    figures["coordinates"] = figure
    note = "A line a run, colored by the first measure. Drag along an axis to choose runs."
    plot = '<div class="plot" id="coordinates"></div>'
    return f'<div class="scroll" tabindex="0">{plot}</div><p class="note">{note}</p>'


def _runs(runs: Sequence[Run], failed: Sequence[Failure]) -> str:
    ended = {one.folder for one in failed}
    states = ["failed" if run.folder in ended else "" if run.finished else "unfinished" for run in runs]
    return "".join(map(_run, runs, names(runs), states))


def _run(run: Run, name: str, state: str) -> str:
    about = [
        ("folder", str(run.folder)),
        ("command", provenance.command(run)),
        ("given in", provenance.where(run)),
    ]
    about += provenance.environment(run).items()
    body = "".join(
        f"<dt>{escape(key)}</dt><dd>{'<pre>' if key == 'command' else ''}{escape(value)}"
        f"{'</pre>' if key == 'command' else ''}</dd>"
        for key, value in about
    )
    told = f" <em>{state}</em>" if state else ""
    return f"<details><summary>{escape(name)}{told}</summary><dl>{body}</dl></details>"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
