"""`metrics.csv`: one row a step, whatever interruptions and late metrics do."""

import csv
from pathlib import Path

import pytest

from cim_lightning.monitors.metrics_file import MetricsFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.csv"


def write(path: Path, *rows: tuple[int, dict[str, float]], every_row: bool = True) -> None:
    """What a process logs before it ends."""
    log = MetricsFile(str(path))
    for step, metrics in rows:
        log.log_metrics(metrics, step)
        if every_row:
            log.save()
    log.finalize("success")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_a_step_below_one_header(path):
    write(path, (0, {"loss": 3.0}), (1, {"loss": 2.5}), (5, {"loss": 1.25}))
    assert path.read_text().split() == ["step,loss", "0,3.0", "1,2.5", "5,1.25"]


def test_rows_saved_together_are_the_rows_saved_one_by_one(path, tmp_path):
    rows = [(0, {"loss": 3.0}), (0, {"lr": 0.1}), (1, {"loss": 2.0}), (1, {"val": 0.5}), (2, {"loss": 1.0})]
    write(path, *rows)
    write(tmp_path / "together.csv", *rows, every_row=False)
    assert path.read_text() == (tmp_path / "together.csv").read_text()


def test_another_process_continues_the_file(path):
    write(path, (0, {"loss": 3.0}), (1, {"loss": 2.0}))
    write(path, (2, {"loss": 1.0}), (3, {"loss": 0.5}))
    assert path.read_text().split() == ["step,loss", "0,3.0", "1,2.0", "2,1.0", "3,0.5"]


def test_a_process_that_logs_nothing_leaves_the_file(path):
    write(path)
    assert not path.exists()
    write(path, (0, {"loss": 3.0}))
    before = path.read_text()
    write(path)
    assert path.read_text() == before


def test_a_new_column_is_empty_in_the_rows_before_it(path):
    write(path, (0, {"loss": 3.0}), (1, {"loss": 2.0, "val/knn": 0.5}))
    write(path, (2, {"lr": 0.1}))
    assert read(path) == [
        {"step": "0", "loss": "3.0", "val/knn": "", "lr": ""},
        {"step": "1", "loss": "2.0", "val/knn": "0.5", "lr": ""},
        {"step": "2", "loss": "", "val/knn": "", "lr": "0.1"},
    ]


def test_a_later_row_of_a_step_merges_into_it(path):
    write(path, (0, {"loss": 3.0}), (1, {"loss": 2.0}), (1, {"val/loss": 9.0}))
    assert [row["step"] for row in read(path)] == ["0", "1"]
    assert read(path)[1] == {"step": "1", "loss": "2.0", "val/loss": "9.0"}


def test_steps_trained_again_after_an_interruption_replace_their_rows(path):
    write(path, *((step, {"loss": float(step), "lr": 0.1}) for step in range(6)))
    write(path, *((step, {"loss": step + 100.0}) for step in range(3, 8)))
    rows = read(path)
    assert [int(row["step"]) for row in rows] == list(range(8))
    assert [float(row["loss"]) for row in rows] == [0, 1, 2, 103, 104, 105, 106, 107]
    assert rows[3]["lr"] == "0.1"  # what was not logged again is kept


def test_steps_are_sorted_and_a_metric_without_one_is_of_step_0(path):
    log = MetricsFile(str(path))
    log.log_metrics({"loss": 2.0}, 7)
    log.log_metrics({"loss": 1.0}, 3)
    log.log_metrics({"val": 5.0})
    log.save()
    assert [row["step"] for row in read(path)] == ["0", "3", "7"]


def test_the_file_is_whole_at_any_moment(path, monkeypatch):
    write(path, (0, {"loss": 3.0}))
    before = path.read_text()
    monkeypatch.setattr(csv.DictWriter, "writerows", lambda *rows: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(path, (1, {"new": 2.0}))
    assert path.read_text() == before
