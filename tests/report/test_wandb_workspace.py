"""The panels that Weights & Biases is asked for, down to what would be sent; they draw what runs log."""

import json
import sys
from typing import Any

import pytest

from cim_lightning.cli import main

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # wandb_workspaces', of itself
ASKED = ["--sweep", "turning", "--tag", "ablation/rotation"]


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
    """Everything that is called so, anywhere in a JSON document."""
    if isinstance(node, list):
        return [one for child in node for one in values(child, key)]
    if not isinstance(node, dict):
        return []
    own = [node[key]] if key in node else []
    return own + [one for child in node.values() for one in values(child, key)]


def test_a_workspace_is_sections_of_panels_and_a_table_of_runs(run_workspace, capsys):
    run_workspace("--spec", "--entity", "me", "--project", "theirs", *ASKED)
    sent = json.loads(capsys.readouterr().out)
    assert (sent["entity"], sent["project"]) == ("me", "theirs")
    view = sent["spec"]["section"]
    sections = view["panelBankConfig"]["sections"]
    assert [one["name"] for one in sections] == ["Pretext task", "Features", "Speed", "Pictures", "Tables"]
    assert {one["viewType"] for one in sections[0]["panels"]} == {"Run History Line Plot"}
    drawn = [one["config"]["metrics"] for one in sections[0]["panels"]]
    assert drawn[:3] == [["train/loss", "val/loss"], ["val/skill"], ["val/iou", "val/iou_constant"]]
    (pictures,) = sections[3]["panels"]
    assert pictures["config"]["mediaKeys"] == ["panels"]
    (runs,) = view["runSets"]
    assert runs["grouping"] == [{"section": "run", "name": "group"}]
    assert runs["sort"]["keys"] == [{"key": {"section": "summary", "name": "val/knn"}, "ascending": False}]
    told = {(one["key"]["name"], one["op"], str(one["value"])) for one in runs["filters"]["filters"]}
    assert told == {("group", "=", "turning"), ("tags", "IN", "['ablation/rotation']")}
    assert runs["runFeed"]["columnOrder"][:2] == ["run:displayName", "summary:val/knn"]


def test_a_report_has_the_same_panels_over_the_same_runs(run_workspace, capsys):
    run_workspace("--spec", "--report", *ASKED)
    report = json.loads(capsys.readouterr().out)["spec"]
    run_workspace("--spec", *ASKED)
    space = json.loads(capsys.readouterr().out)["spec"]
    assert values(report, "metrics") == values(space, "metrics") != []
    assert values(report, "mediaKeys") == values(space, "mediaKeys")
    grids = [block["metadata"] for block in report["blocks"] if block["type"] == "panel-grid"]
    for grid in grids:
        (runs,) = grid["runSets"]
        assert runs["grouping"] == [{"section": "run", "name": "group"}]
        assert runs["sort"]["keys"][0]["key"] == {"section": "summary", "name": "val/knn"}
        assert "turning" in json.dumps(runs["filters"])
        places = [
            tuple(one["layout"][side] for side in "xy") for one in grid["panelBankSectionConfig"]["panels"]
        ]
        assert len(set(places)) == len(places)


def test_without_a_login_it_is_told_in_one_line(run_workspace, capsys):
    with pytest.raises(SystemExit) as end:
        run_workspace()
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "cim-workspace: wandb: nobody is logged in; try wandb login, or --spec, which needs no login"
    )


def test_without_the_library_it_is_told_in_one_line(run_workspace, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("wandb_workspaces")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(SystemExit) as end:
        run_workspace("--spec")
    assert end.value.code == 2
    assert "pip install 'cim-lightning[dashboards]'" in capsys.readouterr().err
