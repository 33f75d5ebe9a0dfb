"""What Weights & Biases is sent, and what the page shows, are the same numbers."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from cim_lightning.monitors.metrics_file import MetricsFile
from cim_lightning.report.curves import read_curves

BLOCK = 32768  # bytes, of LevelDB's log format, in which wandb keeps what it would send
WHOLE, LAST = 1, 4  # kinds of fragments


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


def sent(path: Path) -> dict[str, list[float]]:
    """Every logged number, by its name."""
    from wandb.proto.wandb_internal_pb2 import Record

    numbers: dict[str, list[float]] = {}
    for data in kept(path):
        record = Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            for item in record.history.item:
                numbers.setdefault(item.key or "/".join(item.nested_key), []).append(
                    json.loads(item.value_json)
                )
    return numbers


def test_online_runs_and_pages_show_the_same_numbers(tmp_path, monkeypatch):
    from lightning.pytorch.loggers import WandbLogger

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SILENT", "true")
    online = WandbLogger(project="cim-lightning", save_dir=str(tmp_path), mode="offline", log_model=False)
    local = MetricsFile(str(tmp_path / "metrics.csv"))
    steps = range(24, 500, 25)
    for step in steps:
        for logger in (online, local):
            logger.log_metrics({"train/loss": 1 / (step + 1), "val/knn": (0.1 + 0.2) / step}, step)
    local.save()
    online.experiment.finish()
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    numbers, curves = sent(path), read_curves(tmp_path / "metrics.csv")
    for name in ("train/loss", "val/knn"):
        assert numbers[name] == pytest.approx(curves[name].values, rel=1e-12)
        assert len(numbers[name]) == len(steps)
    assert [step + 1 for step in numbers["trainer/global_step"]] == curves["train/loss"].steps
