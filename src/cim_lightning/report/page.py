"""One self-contained HTML page about runs, which needs no other files and no network."""

from collections.abc import Iterator, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cim_lightning.config.result_settings import changes_result
from cim_lightning.report import cost_plot, failures, plots, provenance, tables
from cim_lightning.report.comparison import Comparison
from cim_lightning.report.curves import AXES, step_costs
from cim_lightning.report.failures import Failure
from cim_lightning.report.markdown import unfinished
from cim_lightning.report.panel_gallery import galleries
from cim_lightning.report.runs import Run, differing_keys, group_by_setting, run_titles
from cim_lightning.report.tables import Cell, Table

MAX_COMMANDS = 6  # at the top; the command of every run is at the end


def page(
    title: str, runs: Sequence[Run], failed: Sequence[Failure] = (), reference: str | None = None
) -> str:
    """Return the page: tables, curves and panels of finished and unfinished runs, and the failed jobs.

    Args:
        reference: setting that the others are compared with; None: the best one of each column.
    """
    environment = Environment(
        loader=PackageLoader("cim_lightning.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    comparison = Comparison(runs)
    finished = [run for run in runs if run.finished]
    figures = {
        "curves": plots.curves(runs),
        "costs": cost_plot.costs(finished),
        "coordinates": plots.coordinates(finished),
    }
    commands = dict.fromkeys(provenance.sweep_command(run) or provenance.command(run) for run in runs)
    return environment.get_template("page.html.j2").render(
        title=title,
        counts=_counts(runs, failed),
        varied=_varied(runs) if len(runs) > 1 else None,
        common=_common(runs) if len(runs) > 1 else [],
        commands=[*commands][:MAX_COMMANDS],
        more_commands=len(commands) > MAX_COMMANDS,
        results=tables.results(comparison) if comparison.rows else None,
        differences=tables.differences(runs, reference),
        correction=tables.correction(reference),
        failed=list(zip(failures.lines(failed, runs), failed, strict=True)),
        figures={name: figure for name, figure in figures.items() if figure is not None},
        library=plots.library() if any(figures.values()) else "",
        axes={name: AXES[name] for name in AXES if any(name in step_costs(run) for run in runs)},
        all_finished=len(finished) == len(runs),
        galleries=galleries(runs),
        settings=tables.settings(runs),
        runs=_runs(runs, failed),
    )


def _counts(runs: Sequence[Run], failed: Sequence[Failure]) -> str:
    counts = f"{_plural(len(runs), 'run')} of {_plural(len(group_by_setting(runs)), 'setting')}"
    if rest := unfinished(runs, failed):
        counts += f", {len(rest)} of them unfinished"
    return counts + (f"; {_plural(len(failed), 'job')} failed" if failed else "")


def _varied(runs: Sequence[Run]) -> Table:
    overrides = [run.overrides | {"seed": str(run.seed)} for run in sorted(runs, key=lambda run: run.seed)]
    rows = []
    for key in [*differing_keys(runs), "seed"]:
        values = dict.fromkeys(values[key] for values in overrides if key in values)
        rows.append([Cell(key), Cell(", ".join(values))])
    return Table(["varied", "values"], rows)


def _common(runs: Sequence[Run]) -> list[str]:
    varied = {*differing_keys(runs), "seed"}
    overrides = dict.fromkeys(item for run in runs for item in run.overrides.items())
    return [f"{k}={v}" for k, v in overrides if k not in varied and changes_result(k)]


def _runs(runs: Sequence[Run], failed: Sequence[Failure]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield title, state and details of each run."""
    folders = {failure.folder for failure in failed}
    for title, run in zip(run_titles(runs), runs, strict=True):
        state = "failed" if run.folder in folders else "" if run.finished else "unfinished"
        details = {"folder": run.folder, "command": provenance.command(run)}
        details |= {"working directory": run.info["cwd"]} | provenance.environment(run)
        details |= provenance.image_changes(run)
        yield title, state, details


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
