"""One table of several runs: a row a setting, mean and standard deviation over its seeds."""

import csv
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cim_lightning.atomic import atomic_write
from cim_lightning.report import failures
from cim_lightning.report.runs import Run, grouped, read_runs

JUDGED, WATCHED = "k-NN, %", "online k-NN after, %"


class Column(NamedTuple):
    """A measure: what stands above it, where it is found in a run, and the digits after its point.

    goal: whether more of it is what a run is for, so that one setting can be the best; of one that has an
    `unless`, only where nobody measured that.
    """

    title: str
    value: Callable[[dict[str, Any]], float | None]
    digits: int
    goal: bool = False
    unless: str | None = None

    def of(self, run: Run) -> float | None:
        """What a run measured; None if it did not, if it is no number, or of a version that did not yet."""
        try:
            value = self.value(run.numbers)
        except KeyError:
            return None
        return value if value is not None and math.isfinite(value) else None


def _share(name: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda numbers: None if name not in numbers else 100 * numbers[name]


def _knn(kind: str) -> Callable[[dict[str, Any]], float | None]:
    """With 20 neighbors, or as many as come next to that of those that were asked for."""
    prefix = f"evaluation/knn/{kind}_k"

    def value(numbers: dict[str, Any]) -> float | None:
        ks = [int(name.removeprefix(prefix)) for name in numbers if name.startswith(prefix)]
        return 100 * numbers[f"{prefix}{min(ks, key=lambda k: abs(k - 20))}"] if ks else None

    return value


def _gpu_memory(numbers: dict[str, Any]) -> float | None:
    """None on a CPU: a process's memory tells of the jobs before it, too."""
    return None if numbers["device"].endswith(" CPU") else numbers["peak_memory_bytes"] / 1e9


def _flops(numbers: dict[str, Any]) -> float:
    return numbers["forward_flops_per_image"] + numbers["backward_flops_per_image"]


COLUMNS = (
    Column("epochs", lambda numbers: numbers["images_seen"] / numbers["train_images"], 2),
    Column("GFLOP an image", lambda numbers: _flops(numbers) / 1e9, 3),
    Column("TFLOP in all", lambda numbers: _flops(numbers) * numbers["images_seen"] / 1e12, 1),
    Column("images/s", lambda numbers: numbers["images_per_s"], 0),
    Column("seconds", lambda numbers: numbers["seconds"], 0),
    Column("peak GPU GB", _gpu_memory, 2),
    Column("online k-NN before, %", _share("initial/knn"), 1),
    Column(WATCHED, _share("val/knn"), 1, goal=True, unless=JUDGED),
    Column(JUDGED, _knn("mean"), 1, goal=True),
    Column("k-NN pooled, %", _knn("pooled"), 1, goal=True),
    Column("probe, %", _share("evaluation/linear/mean"), 1, goal=True),
    Column("probe pooled, %", _share("evaluation/linear/pooled"), 1, goal=True),
    Column("effective rank", lambda numbers: numbers.get("val/effective_rank"), 1),
    Column("skill", lambda numbers: numbers.get("val/skill"), 3, goal=True),
)


def objective(run: Run) -> float | None:
    """What a search is for: the k-NN accuracy, in percent: the evaluation's, else the one while training."""
    found = {column.title: column.of(run) for column in COLUMNS if column.title in (JUDGED, WATCHED)}
    return found[WATCHED] if found[JUDGED] is None else found[JUDGED]


class Cell(NamedTuple):
    """Mean and sample deviation over n runs; no deviation of one."""

    mean: float
    deviation: float | None
    n: int

    def text(self, digits: int) -> str:
        spread = "" if self.deviation is None else f" ± {self.deviation:,.{digits}f}"
        return f"{self.mean:,.{digits}f}{spread}"


def finished(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The finished runs by setting, which unfinished ones help to tell apart."""
    groups = {name: [run for run in some if run.finished] for name, some in grouped(runs).items()}
    return {name: some for name, some in groups.items() if some}


def shown(rows: dict[str, dict[str, Cell]]) -> list[Column]:
    """The columns that any row has."""
    return [column for column in COLUMNS if any(column.title in cells for cells in rows.values())]


def goals(rows: dict[str, dict[str, Cell]]) -> list[Column]:
    """The columns in which one row can be the best."""
    columns = shown(rows)
    titles = {column.title for column in columns}
    return [column for column in columns if column.goal and column.unless not in titles]


def compare(runs: Sequence[Run]) -> dict[str, dict[str, Cell]]:
    """Rows by setting, their cells by title; a measure that no run has is in none."""
    rows = {}
    for name, some in finished(runs).items():
        cells = {}
        for column in COLUMNS:
            values = [value for run in some if (value := column.of(run)) is not None]
            if values:
                deviation = statistics.stdev(values) if len(values) > 1 else None
                cells[column.title] = Cell(statistics.fmean(values), deviation, len(values))
        rows[name] = cells
    return rows


def markdown(runs: Sequence[Run]) -> str:
    """The table, with the number of runs behind each row; the best of each goal in bold."""
    rows, counts = compare(runs), {name: len(some) for name, some in finished(runs).items()}
    columns = shown(rows)
    firsts = {(best(rows, column.title), column.title) for column in goals(rows)}
    lines = ["| | runs | " + " | ".join(column.title for column in columns) + " |"]
    lines.append("|---|---|" + "---|" * len(columns))
    for name, cells in rows.items():
        texts = [cells[c.title].text(c.digits) if c.title in cells else "" for c in columns]
        titled = zip(columns, texts, strict=True)
        texts = [f"**{text}**" if (name, column.title) in firsts else text for column, text in titled]
        lines.append(f"| {name} | {counts[name]} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def best(rows: dict[str, dict[str, Cell]], title: str) -> str | None:
    """The row with the highest mean of a measure; None where it is alone, or another has the same."""
    ranked = sorted((cells[title].mean, name) for name, cells in rows.items() if title in cells)
    return ranked[-1][1] if len(ranked) > 1 and ranked[-1][0] > ranked[-2][0] else None


def write(folder: Path) -> str:
    """Writes `table.md`, which is returned, and `table.csv`, a row a run, into a sweep's folder."""
    runs = read_runs(folder)
    if runs:
        write_rows(runs, folder / "table.csv")
    text = _told(runs, failures.read(folder))
    atomic_write(folder / "table.md", text + "\n")
    return text


def told(folder: Path) -> str:
    """The table of the finished runs in a folder, with what failed under it."""
    return _told(read_runs(folder), failures.read(folder))


def _told(runs: Sequence[Run], failed: Sequence[failures.Failure]) -> str:
    parts = [markdown(runs)] if runs else []
    if failed:
        parts.append("\n".join(f"failed: {line}" for line in failures.lines(failed, runs)))
    return "\n\n".join(parts) if parts else "No run is finished, and none failed."


def forget(folder: Path) -> None:
    """Takes the table away from a sweep that goes on."""
    for name in ("table.md", "table.csv"):
        (folder / name).unlink(missing_ok=True)


def write_rows(runs: Sequence[Run], path: Path) -> None:
    """A CSV file with a row a run, in full precision; folders are told as seen from the file's."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["setting", "seed", "folder", *(column.title for column in COLUMNS)])
        for name, some in finished(runs).items():
            for run in some:
                inside = run.folder.is_relative_to(path.parent)
                place = run.folder.relative_to(path.parent) if inside else run.folder
                rows.writerow([name, run.seed, place, *(column.of(run) for column in COLUMNS)])
