"""What Weights & Biases is sent, read out of its own file: what a run is called, its settings and numbers."""

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import yaml

from cim_lightning.report import wandb_workspace
from cim_lightning.report.curves import read_curves

BLOCK = 32768  # bytes, of LevelDB's log format, in which wandb keeps what it would send
WHOLE, LAST = 1, 4  # kinds of fragments
STEP = "trainer/global_step"


def kept(path: Path) -> Iterator[bytes]:
    """The records of a `.wandb` file, which begins with 7 bytes of its own."""
    data, at, record = path.read_bytes(), 7, b""
    while at < len(data):
        if BLOCK - at % BLOCK < 7:  # no room for a header: padding
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (WHOLE, LAST):
            yield record
            record = b""


def records(folder: Path) -> list[list[Any]]:
    """What the runs in a folder of wandb's sent, in the order of their beginnings."""

    paths = sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    return [[Record.FromString(data) for data in kept(path)] for path in paths]


def kind(sent: list[Any], name: str) -> list[Any]:
    return [getattr(one, name) for one in sent if one.WhichOneof("record_type") == name]


def items(some: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for item in some:
        yield item.key or "/".join(item.nested_key), json.loads(item.value_json)


def history(sent: list[Any]) -> dict[str, list[Any]]:
    """Every logged value, by its name."""
    values: dict[str, list[Any]] = {}
    for row in kind(sent, "history"):
        for name, value in items(row.item):
            values.setdefault(name, []).append(value)
    return values


def summary(sent: list[Any]) -> dict[str, Any]:
    return {name: value for one in kind(sent, "summary") for name, value in items(one.update)}


def settings(sent: list[Any]) -> dict[str, Any]:
    first = [one.config for one in kind(sent, "run")] + kind(sent, "config")
    return {name: value for one in first for name, value in items(one.update)}


class Stop(L.Callback):
    """Ctrl-C, so many steps on."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


@pytest.fixture
def online(
    tiny: list[str], run_pretrain: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """The small run, told to wandb's files."""
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    rest = [one for one in tiny if not one.startswith(("logger=", "callbacks.panels="))]
    rest += ["logger=[csv,wandb]", "callbacks.panels.num_images=1"]
    return lambda *arguments: run_pretrain(*sorted([*rest, *arguments], key=lambda one: one != "-m"))


def test_online_and_local_show_the_same_numbers_and_everything_that_a_run_is(online, tmp_path):
    online("output_dir=a", "evaluation=knn")
    (sent,) = records(tmp_path / "a")
    logged, curves = history(sent), read_curves(tmp_path / "a" / "metrics.csv")
    for name in ("train/loss", "train/data_wait", "val/loss", "val/knn"):
        assert logged[name] == pytest.approx(curves[name].values, rel=1e-12), name
    assert [step + 1 for step in logged[STEP][:10]] == curves["train/loss"].steps
    assert logged["_step"] == logged[STEP]  # rows are numbered by the training step
    numbers = json.loads((tmp_path / "a" / "metrics.json").read_text())
    judged = json.loads((tmp_path / "a" / "evaluation" / "metrics.json").read_text())
    told = summary(sent)
    roots = {name.rpartition("/")[0] for name in logged}  # of what is not a number
    for name, value in (numbers | {f"evaluation/{key}": value for key, value in judged.items()}).items():
        assert told[name] == value, name
    (panels, *_) = (tmp_path / "a" / "wandb").glob("*/files/media/images/panels_*.png")
    assert panels.read_bytes().startswith(b"\x89PNG")
    assert len(logged["panels/count"]) == len([*(tmp_path / "a" / "panels").iterdir()])
    tables = {
        name: json.loads(path.read_text())
        for path in (tmp_path / "a").glob("wandb/*/files/media/table/*/*")
        for name in [path.name.partition("_")[0]]
    }
    rows = {row[0]: row[1:] for row in tables["pretraining"]["data"]}
    assert rows["iou"] == [numbers["initial/iou"], numbers["val/iou"], numbers["val/iou_constant"]]
    assert rows["knn"] == [numbers["initial/knn"], numbers["val/knn"], None]
    assert ["knn", "mean_k1", judged["knn/mean_k1"]] in tables["evaluation"]["data"]
    drawn = {name for panels in wandb_workspace.LINES.values() for names in panels.values() for name in names}
    assert drawn <= logged.keys()
    assert {*wandb_workspace.COLUMNS, *wandb_workspace.PICTURES, *wandb_workspace.TABLES} <= {*told, *roots}
    known = settings(sent)
    assert known["git_commit"] == numbers["git_commit"]
    assert known["torch"] == numbers["torch"]
    written = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert {key: known[key] for key in written} == written
    (run, *_) = kind(sent, "run")
    assert (run.display_name, run.run_group, run.job_type) == ("a", "", "cim-pretrain")
    assert list(run.tags) == ["cim", "vit_micro_patch4"]


def test_a_run_that_goes_on_is_the_same_run_and_loses_no_step(online, tmp_path):
    stop = f"+callbacks.stop={{_target_:{__name__}.Stop,step:7}}"
    with pytest.raises(SystemExit):
        online("output_dir=a", stop)
    online("output_dir=a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "wandb")
    online("output_dir=b", "trainer.max_epochs=3")
    first, second = records(tmp_path / "a")
    (copied,) = records(tmp_path / "b")
    ids = [kind(sent, "run")[0].run_id for sent in (first, second, copied)]
    assert ids[0] == ids[1] != ids[2]
    before, after = history(first)["_step"], history(second)["_step"]
    assert sorted({*before, *after}) == list(range(10))
    assert min(after) > 0  # not counted from the beginning again


def test_a_finished_run_that_is_judged_later_has_it_in_the_same_run(online, tmp_path):
    online("output_dir=a")
    online("output_dir=a", "evaluation=knn")
    online("output_dir=a", "evaluation=knn")  # nothing new to tell
    first, second = records(tmp_path / "a")
    assert kind(first, "run")[0].run_id == kind(second, "run")[0].run_id
    assert "evaluation/knn/mean_k1" not in summary(first)
    assert summary(second)["evaluation/knn/mean_k1"] > 0


def test_jobs_of_a_sweep_are_one_group_and_told_apart_by_what_differs(online, tmp_path):
    recipe = "+logger.wandb.notes=mine"
    online(
        "-m",
        "output_dir=turning",
        recipe,
        "experiment=ablation/rotation",
        "evaluation=[]",
        "trainer.max_steps=1",
        "cropping.rotation=0,15",
        "seed=3",
    )
    runs = [kind(sent, "run")[0] for folder in ("0", "1") for sent in records(tmp_path / "turning" / folder)]
    assert [run.run_group for run in runs] == ["turning", "turning"]
    assert [run.display_name for run in runs] == ["rotation=0", "rotation=15"]
    assert len({run.run_id for run in runs}) == 2
    assert list(runs[0].tags) == ["cim", "vit_micro_patch4", "ablation/rotation"]
    assert runs[0].notes == "mine"
