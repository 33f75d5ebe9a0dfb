"""The records that Weights & Biases would send, read from its offline files."""

import json
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import lightning as L
import pytest
import yaml

from cim_lightning.cropping.absent_exemplars import ABSENT_AREA
from cim_lightning.loggers import wandb_rows
from cim_lightning.loggers.wandb import WandbLogger
from cim_lightning.methods.cim import CIM
from cim_lightning.metric_registry import by_section, declared
from cim_lightning.models.token_correlation import TOKEN_METRICS
from cim_lightning.report import wandb_workspace
from cim_lightning.report.curves import read_curves

BLOCK = 32768  # bytes, of LevelDB's log format, which wandb uses
WHOLE, LAST = 1, 4  # types of fragments
STEP = "trainer/global_step"


def read_log(path: Path) -> Iterator[bytes]:
    """Yield the records of a `.wandb` file, after its header of 7 bytes."""
    data, at, record = path.read_bytes(), 7, b""
    while at < len(data):
        if BLOCK - at % BLOCK < 7:  # no room for a header: padding
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        if at + 7 + length > len(data):  # of a killed run
            return
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (WHOLE, LAST):
            yield record
            record = b""


def complete(path: Path) -> Iterator[Any]:
    """Yield the complete records of a file."""
    from wandb.proto.wandb_internal_pb2 import Record

    return (Record.FromString(data) for data in read_log(path))


def records(folder: Path) -> list[list[Any]]:
    """Return the records of each part of a run, sorted by start. wandb writes the last ones late."""
    paths = sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.parent.name)
    end = time.monotonic() + 10
    while True:
        parts = [[*complete(path)] for path in paths]
        if of_type(parts[-1], "exit") or time.monotonic() > end:
            return parts
        time.sleep(0.05)


def of_type(sent: list[Any], name: str) -> list[Any]:
    return [getattr(record, name) for record in sent if record.WhichOneof("record_type") == name]


def items(fields: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for item in fields:
        yield item.key or "/".join(item.nested_key), json.loads(item.value_json)


def history(sent: list[Any]) -> dict[str, list[Any]]:
    """Return every logged value, by name."""
    values: dict[str, list[Any]] = {}
    for row in of_type(sent, "history"):
        for name, value in items(row.item):
            values.setdefault(name, []).append(value)
    return values


def summary(sent: list[Any]) -> dict[str, Any]:
    return {name: value for part in of_type(sent, "summary") for name, value in items(part.update)}


def settings(sent: list[Any]) -> dict[str, Any]:
    configs = [run.config for run in of_type(sent, "run")] + of_type(sent, "config")
    return {name: value for config in configs for name, value in items(config.update)}


class Stop(L.Callback):
    """Interrupt training after a step, as Ctrl-C does."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


@pytest.fixture
def run_with_wandb(
    tiny: list[str], run_pretrain: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Run `cim-pretrain` with wandb in offline mode."""
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    common = [text for text in tiny if not text.startswith(("logger=", "callbacks.panels="))]
    common += ["logger=[csv,wandb]", "callbacks.panels.num_images=1"]
    return lambda *arguments: run_pretrain(*sorted([*common, *arguments], key=lambda text: text != "-m"))


def test_wandb_has_the_local_numbers_settings_tables_and_pictures(run_with_wandb, tmp_path):
    run_with_wandb("output_dir=a", "evaluation=knn")
    (sent,) = records(tmp_path / "a")
    logged, curves = history(sent), read_curves(tmp_path / "a" / "metrics.csv")
    for name in ("train/loss", "train/data_wait", "val/loss", "val/knn"):
        assert logged[name] == pytest.approx(curves[name].values, rel=1e-12), name
    assert [step + 1 for step in logged[STEP][:10]] == curves["train/loss"].steps
    assert logged["_step"] == logged[STEP]  # wandb's step is the training step
    numbers = json.loads((tmp_path / "a" / "metrics.json").read_text())
    evaluated = json.loads((tmp_path / "a" / "evaluation" / "metrics.json").read_text())
    summarized = summary(sent)
    media = {name.rpartition("/")[0] for name in logged}  # pictures and tables
    measured = {f"evaluation/{key}": value for key, value in evaluated.items() if "/" in key}
    for name, value in (numbers | measured).items():
        assert summarized[name] == value, name
    (panels, *_) = (tmp_path / "a" / "wandb").glob("*/files/media/images/panels_*.png")
    assert panels.read_bytes().startswith(b"\x89PNG")
    assert len(logged["panels/count"]) == len([*(tmp_path / "a" / "panels").iterdir()])
    tables = {
        name: json.loads(path.read_text())
        for path in (tmp_path / "a").glob("wandb/*/files/media/table/*/*")
        for name in [path.name.partition("_")[0]]
    }
    rows = {row[0]: row[1:] for row in tables["pretraining"]["data"]}
    assert rows["iou"] == [numbers["initial/iou"], numbers["val/iou"], numbers["val/iou_baseline"], ""]
    assert rows["knn"] == [numbers["initial/knn"], numbers["val/knn"], None, "%"]
    title = evaluated["metrics"]["knn/mean_k1"]["title"]
    assert ["knn", title, evaluated["knn/mean_k1"], "%"] in tables["evaluation"]["data"]
    assert rows["skill"] == [numbers["initial/skill"], numbers["val/skill"], 0, ""]
    optional = (*TOKEN_METRICS, ABSENT_AREA)  # of CIM, which this run does not log
    logs = [metric for metric in CIM.metrics if metric not in optional]
    others = {name for metric in declared() if metric not in logs for name in metric.curves}
    plotted = {name for metrics in by_section().values() for metric in metrics for name in metric.curves}
    assert plotted - others <= logged.keys()
    shown = {*wandb_workspace.columns(), *wandb_workspace.PICTURES, *wandb_workspace.TABLES}
    assert shown - others <= {*summarized, *media}
    config = settings(sent)
    assert config["git_commit"] == numbers["git_commit"]
    assert config["torch"] == numbers["torch"]
    written = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert {key: config[key] for key in written} == written
    (run, *_) = of_type(sent, "run")
    assert (run.display_name, run.run_group, run.job_type) == ("a", "", "cim-pretrain")
    assert list(run.tags) == ["cim", "vit_micro_patch4"]


def test_a_resumed_run_is_the_same_run_and_has_all_steps(run_with_wandb, tmp_path):
    stop = f"+callbacks.stop={{_target_:{__name__}.Stop,step:7}}"
    with pytest.raises(SystemExit):
        run_with_wandb("output_dir=a", stop)
    run_with_wandb("output_dir=a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "wandb")
    run_with_wandb("output_dir=b", "trainer.max_epochs=3")
    first, second = records(tmp_path / "a")
    (copied,) = records(tmp_path / "b")
    ids = [of_type(sent, "run")[0].run_id for sent in (first, second, copied)]
    assert ids[0] == ids[1] != ids[2]
    before, after = history(first)["_step"], history(second)["_step"]
    assert sorted({*before, *after}) == list(range(10))
    assert min(after) > 0  # not counted from 0 again


@pytest.mark.fault(
    "process",
    "SIGKILL in a run that logs to wandb, before wandb has written its last rows",
    "the resumed run has the same id, logs the lost rows, and no row twice",
)
def test_a_killed_run_resumes_without_lost_or_repeated_rows(run_with_wandb, tmp_path):
    common = ("output_dir=a", "callbacks.knn=null", "callbacks.last.every_minutes=0")
    with pytest.raises(SystemExit):
        run_with_wandb(*common, f"+callbacks.stop={{_target_:{__name__}.Stop,step:7}}")
    assert history(*records(tmp_path / "a"))["_step"] == list(range(6))
    (path,) = (tmp_path / "a").glob("wandb/offline-run-*/*.wandb")
    while len(history([*complete(path)]).get("_step", [])) > 4:  # a killed run leaves an incomplete file
        os.truncate(path, path.stat().st_size - 300)
    run_with_wandb(*common)
    first, second = records(tmp_path / "a")
    before, after = (history(part)["_step"] for part in (first, second))
    assert len(before) in (3, 4)
    assert [*before, *after] == list(range(10))
    assert of_type(second, "run")[0].run_id == path.stem.removeprefix("run-")
    curves = read_curves(tmp_path / "a" / "metrics.csv")
    for name in ("train/loss", "val/loss"):
        values = [*history(first)[name], *history(second)[name]]
        assert values == pytest.approx(curves[name].values, rel=1e-12), name


def test_rows_that_wandb_has_are_not_logged_again():
    logger = WandbLogger(mode="offline", id="a")
    logger._experiment, logger.logged = Mock(), {5: {"train/loss", STEP}}
    for metrics, step in (({"train/loss": 1.0}, 5), ({"val/loss": 2.0}, 5), ({"train/loss": 3.0}, 6)):
        logger.log_metrics(metrics, step)
    rows = [call.args[0] for call in logger._experiment.log.call_args_list]
    assert rows == [{"val/loss": 2.0, STEP: 5}, {"train/loss": 3.0, STEP: 6}]
    logger._experiment = None  # the logger of this test has no run to close


def test_lost_rows_are_those_between_two_steps(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,train/loss,epoch\n1,0.5,0\n2,nan,0\n3,,1\n4,0.25,1\n")
    found = wandb_rows.lost_rows(tmp_path / "metrics.csv", 1, 4)
    assert {step: str(row) for step, row in found.items()} == {
        2: "{'train/loss': nan, 'epoch': 0}",
        3: "{'epoch': 1}",
    }
    assert wandb_rows.lost_rows(tmp_path / "none.csv", -1, 4) == {}


def test_the_newest_file_with_rows_decides(tmp_path, monkeypatch):
    rows = {"c": {}, "b": {3: {"x"}}, "a": {1: {"x"}}}
    monkeypatch.setattr(wandb_rows, "_rows", lambda path: rows[path.name])
    assert wandb_rows.logged_rows([tmp_path / name for name in rows]) == {3: {"x"}}


def test_a_later_evaluation_is_added_to_the_same_run(run_with_wandb, tmp_path):
    run_with_wandb("output_dir=a")
    run_with_wandb("output_dir=a", "evaluation=knn")
    run_with_wandb("output_dir=a", "evaluation=knn")  # nothing new to log
    first, second = records(tmp_path / "a")
    assert of_type(first, "run")[0].run_id == of_type(second, "run")[0].run_id
    assert "evaluation/knn/mean_k1" not in summary(first)
    assert summary(second)["evaluation/knn/mean_k1"] > 0


def test_jobs_of_a_sweep_are_one_group_and_named_by_their_settings(run_with_wandb, tmp_path):
    recipe = "+logger.wandb.notes=mine"
    run_with_wandb(
        "-m",
        "output_dir=turning",
        recipe,
        "experiment=ablation/rotation",
        "evaluation=[]",
        "trainer.max_steps=1",
        "cropping.rotation=0,15",
        "seed=3",
    )
    runs = [
        of_type(sent, "run")[0] for folder in ("0", "1") for sent in records(tmp_path / "turning" / folder)
    ]
    assert [run.run_group for run in runs] == ["turning", "turning"]
    assert [run.display_name for run in runs] == ["rotation=0", "rotation=15"]
    assert len({run.run_id for run in runs}) == 2
    assert list(runs[0].tags) == ["cim", "vit_micro_patch4", "ablation/rotation"]
    assert runs[0].notes == "mine"
