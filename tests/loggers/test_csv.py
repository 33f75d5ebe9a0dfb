"""`metrics.csv`: one row per step, also after interruptions."""

import csv
from pathlib import Path

import pytest

from cim_lightning.errors import ConfigError
from cim_lightning.loggers import csv as csv_logger
from cim_lightning.loggers.csv import ResumableCSVLogger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.csv"


def write(logger: ResumableCSVLogger, *steps: tuple[int, dict[str, float]]) -> None:
    for step, metrics in steps:
        logger.log_metrics(metrics, step)
        logger.save()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_step_has_one_row(path):
    write(ResumableCSVLogger(str(path)), (0, {"loss": 2.5}), (1, {"loss": 0.5}))
    assert path.read_text().splitlines() == ["step,loss", "0,2.5", "1,0.5"]


def test_several_logs_of_a_step_are_one_row(path):
    logger = ResumableCSVLogger(str(path))
    logger.log_metrics({"loss": 1.0}, 3)
    logger.log_metrics({"lr": 0.1}, 3)
    logger.save()
    write(logger, (3, {"val": 9.0}))
    assert rows(path) == [{"step": "3", "loss": "1.0", "lr": "0.1", "val": "9.0"}]


def test_new_columns_are_empty_in_earlier_rows(path):
    write(ResumableCSVLogger(str(path)), (0, {"a": 1.0}), (1, {"b": 2.0}), (2, {"a": 3.0}))
    assert rows(path) == [
        {"step": "0", "a": "1.0", "b": ""},
        {"step": "1", "a": "", "b": "2.0"},
        {"step": "2", "a": "3.0", "b": ""},
    ]


def test_a_resumed_run_continues_and_replaces_repeated_steps(path):
    write(ResumableCSVLogger(str(path)), (0, {"loss": 5.0}), (1, {"loss": 4.0}), (2, {"loss": 3.0}))
    write(ResumableCSVLogger(str(path)), (2, {"loss": 3.5}), (3, {"loss": 2.0, "lr": 1.0}))
    assert [(row["step"], row["loss"]) for row in rows(path)] == [
        ("0", "5.0"),
        ("1", "4.0"),
        ("2", "3.5"),
        ("3", "2.0"),
    ]
    assert rows(path)[3]["lr"] == "1.0"


def test_rows_are_sorted_by_step(path):
    write(ResumableCSVLogger(str(path)), (4, {"a": 4.0}), (2, {"a": 2.0}), (6, {"a": 6.0}))
    assert [row["step"] for row in rows(path)] == ["2", "4", "6"]


def test_later_steps_are_appended_without_a_rewrite(path):
    logger = ResumableCSVLogger(str(path))
    write(logger, (0, {"a": 0.0}))
    inode = path.stat().st_ino
    write(logger, (1, {"a": 1.0}), (2, {"a": 2.0}))
    assert path.stat().st_ino == inode
    write(logger, (2, {"a": 3.0}))
    assert path.stat().st_ino != inode


def test_a_failed_rewrite_leaves_the_old_file(path, monkeypatch):
    logger = ResumableCSVLogger(str(path))
    write(logger, (0, {"a": 0.0}))
    before = path.read_bytes()

    def fails(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(csv.DictWriter, "writerows", fails)
    with pytest.raises(OSError, match="no space"):
        write(logger, (1, {"b": 1.0}))
    assert path.read_bytes() == before


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_an_unfinished_last_line_is_dropped(path, cut):
    write(ResumableCSVLogger(str(path)), (0, {"a": 1.25}), (1, {"a": 2.25}))
    path.write_bytes(path.read_bytes()[:-cut])
    write(ResumableCSVLogger(str(path)), (2, {"a": 3.0}))
    assert rows(path) == [{"step": "0", "a": "1.25"}, {"step": "2", "a": "3.0"}]


def test_an_empty_file_gets_a_header(path):
    path.touch()
    write(ResumableCSVLogger(str(path)), (0, {"a": 1.0}))
    assert rows(path) == [{"step": "0", "a": "1.0"}]


def test_finalize_writes_pending_rows(path):
    logger = ResumableCSVLogger(str(path))
    logger.log_metrics({"a": 1.0}, 0)
    assert not path.exists()
    logger.finalize("success")
    assert rows(path) == [{"step": "0", "a": "1.0"}]


def test_rows_of_steps_that_are_repeated_are_dropped(path):
    write(ResumableCSVLogger(str(path)), *((step, {"loss": float(step)}) for step in range(4)))
    logger = ResumableCSVLogger(str(path))
    logger.drop_rows(2)
    assert [row["step"] for row in rows(path)] == ["0", "1"]
    write(logger, (2, {"other": 5.0}))
    assert rows(path)[-1] == {"step": "2", "loss": "", "other": "5.0"}
    logger.drop_rows(0)
    assert not path.exists()
    write(logger, (0, {"loss": 1.0}))
    assert path.read_text().splitlines() == ["step,loss", "0,1.0"]


def test_sync_writes_pending_rows_to_disk(path, monkeypatch):
    synced = []
    monkeypatch.setattr(csv_logger, "sync", lambda file: synced.append(file.read_text()))
    logger = ResumableCSVLogger(str(path))
    logger.sync()
    assert synced == []  # nothing was logged
    logger.log_metrics({"a": 1.0}, 0)
    logger.sync()
    assert synced == ["step,a\n0,1.0\n"]


@pytest.mark.parametrize("content", [b"\x89PNG\0\n", b"step,loss\nfive,1.0\n", b"a,b\n1,2\n"])
def test_another_file_is_refused_in_one_line(path, content):
    path.write_bytes(content)
    logger = ResumableCSVLogger(str(path))
    logger.log_metrics({"a": 1.0}, 0)
    with pytest.raises(ConfigError, match=r"metrics\.csv: not the metrics of a run; move the file away$"):
        logger.save()
    assert path.read_bytes() == content
