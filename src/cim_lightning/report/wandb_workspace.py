"""A workspace and a report of Weights & Biases, as code: the panels that runs are looked at by."""

import json
from typing import Any

from cim_lightning.errors import ConfigError

# Section -> panel -> what it draws, as runs log it.
LINES = {
    "Pretext task": {
        "Loss": ("train/loss", "val/loss"),
        "Skill: 0 is the constant map, 1 perfect": ("val/skill",),
        "IoU, beside the constant map's": ("val/iou", "val/iou_constant"),
        "Pointing accuracy, beside the constant map's": ("val/pointing", "val/pointing_constant"),
    },
    "Features": {
        "k-NN accuracy": ("val/knn", "val/knn_pooled"),
        "Effective rank": ("val/effective_rank",),
        "Spread": ("val/feature_std",),
    },
    "Speed": {
        "Images a second": ("train/images_per_s",),
        "Share of the time that waits for data": ("train/data_wait",),
    },
}
PICTURES = ("panels",)
TABLES = ("tables/pretraining", "tables/evaluation")
COLUMNS = ("val/knn", "initial/knn", "val/skill", "val/iou", "images_seen", "seconds")  # of the runs' table
BEST_FIRST = "val/knn"


def workspace(entity: str, project: str, sweep: str | None, tag: str | None) -> Any:
    """The workspace, not yet saved.

    Args:
        entity: whose it is.
        project: whose runs it shows.
        sweep: shows this group alone.
        tag: shows runs with this tag alone, such as a question.
    """
    ws, _, expr = _library()
    sections = [ws.Section(name=name, panels=panels, is_open=True) for name, panels in _panels().items()]
    runs = ws.RunsetSettings(
        filters=_filters(sweep, tag),
        groupby=[expr.Metric("Group")],
        order=[expr.Ordering(expr.Summary(BEST_FIRST), ascending=False)],
        pinned_columns=["run:displayName", *(f"summary:{name}" for name in COLUMNS)],
    )
    title = sweep or tag or "Correlational image modeling"
    return ws.Workspace(entity=entity, project=project, name=title, sections=sections, runset_settings=runs)


def report(entity: str, project: str, sweep: str | None, tag: str | None) -> Any:
    """A report to write in, with the same panels; arguments as of `workspace`."""
    _, wr, _ = _library()
    blocks: list[Any] = [wr.H1("Question"), wr.P("What was asked, and what the runs say.")]
    for name, panels in _panels().items():
        runs = wr.Runset(  # of the report's own project: another one would be looked up online
            entity="",
            project="",
            name=sweep or tag or "All runs",
            filters=_filters(sweep, tag),
            groupby=["Group"],
            order=[wr.OrderBy(name=wr.SummaryMetric(BEST_FIRST), ascending=False)],
        )
        blocks += [wr.H2(name), wr.PanelGrid(runsets=[runs], panels=panels)]
    blocks += [wr.H1("What it says, and what it cannot say"), wr.P("")]
    return wr.Report(project=project, entity=entity, title=sweep or tag or "A question", blocks=blocks)


def spec(one: Any) -> dict[str, Any]:
    """What a workspace or a report would send, as JSON has it."""
    sent = json.loads(one._to_model().model_dump_json(by_alias=True, exclude_none=True))
    return {"entity": one.entity, "project": one.project, "spec": sent["spec"]}


def _panels() -> dict[str, list[Any]]:
    _, wr, _ = _library()
    lines = {
        name: [wr.LinePlot(title=title, x="Step", y=list(metrics)) for title, metrics in panels.items()]
        for name, panels in LINES.items()
    }
    pictures = [wr.MediaBrowser(title="Correlation panels", media_keys=list(PICTURES))]
    return lines | {
        "Pictures": pictures,
        "Tables": [wr.WeavePanelSummaryTable(table_name=name) for name in TABLES],
    }


def _filters(sweep: str | None, tag: str | None) -> Any:
    _, _, expr = _library()
    asked = [] if sweep is None else [expr.Metric("Group") == sweep]
    asked += [] if tag is None else [expr.Metric("Tags").isin([tag])]
    return expr.And(*asked) if asked else ""  # which the library takes for none


def _library() -> tuple[Any, Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
        from wandb_workspaces import expr
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} is not installed; try pip install 'cim-lightning[dashboards]'"
        ) from error
    return workspaces, reports, expr
