"""A wandb workspace and a wandb report as code: panels of curves, pictures and tables."""

import json
from typing import Any

from cim_lightning.errors import ConfigError
from cim_lightning.metric_registry import TABLE, by_section, shown_in

PICTURES = ("panels",)
TABLES = ("tables/pretraining", "tables/evaluation")
SORTED_BY, BEFORE = "val/knn", "initial/knn"


def columns() -> list[str]:
    """Return the columns of the table of runs."""
    metrics = (f"val/{metric.name}" for metric in shown_in(TABLE))
    return [*dict.fromkeys((SORTED_BY, *metrics, BEFORE, "images_seen", "seconds"))]


def workspace(entity: str, project: str, sweep: str | None, tag: str | None) -> Any:
    """Return an unsaved workspace.

    Args:
        entity: user or team.
        project: project with the runs.
        sweep: show only the runs of this group.
        tag: show only runs with this tag.
    """
    ws, wr, expr = _library()
    sections = [ws.Section(name=name, panels=panels, is_open=True) for name, panels in _panels(wr).items()]
    runs = ws.RunsetSettings(
        filters=_filters(expr, sweep, tag),
        groupby=[expr.Metric("Group")],
        order=[expr.Ordering(expr.Summary(SORTED_BY), ascending=False)],
        pinned_columns=["run:displayName", *(f"summary:{name}" for name in columns())],
    )
    title = sweep or tag or "Correlational image modeling"
    return ws.Workspace(entity=entity, project=project, name=title, sections=sections, runset_settings=runs)


def report(entity: str, project: str, sweep: str | None, tag: str | None) -> Any:
    """Return an unsaved report with the same panels and text blocks; arguments as of `workspace`."""
    _, wr, expr = _library()
    filters, name = _filters(expr, sweep, tag), sweep or tag or "All runs"
    order = [wr.OrderBy(name=wr.SummaryMetric(SORTED_BY), ascending=False)]
    blocks: list[Any] = [wr.H1("Question"), wr.P("What was the question, and what do the runs show?")]
    for heading, panels in _panels(wr).items():
        # Without a name it is the report's own project. The library would look any other up online.
        runs = wr.Runset(entity="", project="", name=name, filters=filters, groupby=["Group"], order=order)
        blocks += [wr.H2(heading), wr.PanelGrid(runsets=[runs], panels=panels)]
    blocks += [wr.H1("Conclusions and limits"), wr.P("")]
    return wr.Report(project=project, entity=entity, title=sweep or tag or "A question", blocks=blocks)


def spec(view: Any) -> dict[str, Any]:
    """Return the JSON that saving a workspace or a report would send."""
    model = json.loads(view._to_model().model_dump_json(by_alias=True, exclude_none=True))
    return {"entity": view.entity, "project": view.project, "spec": model["spec"]}


def _panels(wr: Any) -> dict[str, list[Any]]:
    panels = {
        section: [wr.LinePlot(title=metric.title, x="Step", y=[*metric.curves]) for metric in metrics]
        for section, metrics in by_section().items()
    }
    pictures = [wr.MediaBrowser(title="Correlation panels", media_keys=[*PICTURES])]
    tables = [wr.WeavePanelSummaryTable(table_name=name) for name in TABLES]
    return panels | {"Pictures": pictures, "Tables": tables}


def _filters(expr: Any, sweep: str | None, tag: str | None) -> Any:
    filters = [] if sweep is None else [expr.Metric("Group") == sweep]
    filters += [] if tag is None else [expr.Metric("Tags").isin([tag])]
    return expr.And(*filters) if filters else ""  # "": no filter


def _library() -> tuple[Any, Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
        from wandb_workspaces import expr
    except ModuleNotFoundError as error:
        hint = "try pip install 'cim-lightning[dashboards]'"
        raise ConfigError(f"{error.name} is not installed; {hint}") from error
    return workspaces, reports, expr
