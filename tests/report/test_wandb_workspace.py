"""The workspace and the report of Weights & Biases, as they would be sent."""

import json
import sys
from typing import Any

import pytest

from cim_lightning.cli import main

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # raised by wandb_workspaces
FILTERS = ["--sweep", "turning", "--tag", "ablation/rotation"]


@pytest.fixture
def run_workspace(monkeypatch, tmp_path):
    """`cim-workspace`, called with its arguments by somebody who is not logged in."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")

    def call(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["cim-workspace", *arguments])
        main.workspace()

    return call


def values(node: Any, key: str) -> list[Any]:
    """Return all values of a key, anywhere in a JSON document."""
    if isinstance(node, list):
        return [value for child in node for value in values(child, key)]
    if not isinstance(node, dict):
        return []
    own = [node[key]] if key in node else []
    return own + [value for child in node.values() for value in values(child, key)]


def test_a_workspace_has_sections_of_panels_and_a_table_of_runs(run_workspace, capsys):
    run_workspace("--spec", "--entity", "me", "--project", "theirs", *FILTERS)
    sent = json.loads(capsys.readouterr().out)
    assert (sent["entity"], sent["project"]) == ("me", "theirs")
    view = sent["spec"]["section"]
    sections = view["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == [
        "Pretext task",
        "Features",
        "Speed",
        "Pictures",
        "Tables",
    ]
    assert {panel["viewType"] for panel in sections[0]["panels"]} == {"Run History Line Plot"}
    drawn = [panel["config"]["metrics"] for panel in sections[0]["panels"]]
    assert drawn[0] == ["train/loss", "val/loss"]
    for curves in (["val/skill"], ["val/iou", "val/iou_baseline"], ["val/target_entropy"]):
        assert curves in drawn  # of every method
    assert ["val/target_perplexity"] in drawn
    (pictures,) = sections[3]["panels"]
    assert pictures["config"]["mediaKeys"] == ["panels"]
    (runs,) = view["runSets"]
    assert runs["grouping"] == [{"section": "run", "name": "group"}]
    assert runs["sort"]["keys"] == [{"key": {"section": "summary", "name": "val/knn"}, "ascending": False}]
    filters = {(f["key"]["name"], f["op"], str(f["value"])) for f in runs["filters"]["filters"]}
    assert filters == {("group", "=", "turning"), ("tags", "IN", "['ablation/rotation']")}
    assert runs["runFeed"]["columnOrder"][:2] == ["run:displayName", "summary:val/knn"]


def test_a_report_has_the_same_panels_over_the_same_runs(run_workspace, capsys):
    run_workspace("--spec", "--report", *FILTERS)
    report = json.loads(capsys.readouterr().out)["spec"]
    run_workspace("--spec", *FILTERS)
    space = json.loads(capsys.readouterr().out)["spec"]
    assert values(report, "metrics") == values(space, "metrics") != []
    assert values(report, "mediaKeys") == values(space, "mediaKeys")
    grids = [block["metadata"] for block in report["blocks"] if block["type"] == "panel-grid"]
    for grid in grids:
        (runs,) = grid["runSets"]
        assert runs["grouping"] == [{"section": "run", "name": "group"}]
        assert runs["sort"]["keys"][0]["key"] == {"section": "summary", "name": "val/knn"}
        assert "turning" in json.dumps(runs["filters"])
        panels = grid["panelBankSectionConfig"]["panels"]
        positions = [tuple(panel["layout"][axis] for axis in "xy") for panel in panels]
        assert len(set(positions)) == len(positions)


def test_without_a_login_the_error_is_one_line(run_workspace, capsys):
    with pytest.raises(SystemExit) as end:
        run_workspace()
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "cim-workspace: wandb: not logged in; try wandb login, or --spec, which needs no login"
    )


def test_without_the_library_the_error_is_one_line(run_workspace, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("wandb_workspaces")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(SystemExit) as end:
        run_workspace("--spec")
    assert end.value.code == 2
    assert "pip install 'cim-lightning[dashboards]'" in capsys.readouterr().err
