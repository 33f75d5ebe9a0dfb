"""`metrics.csv`: one row per step, which a resumed run continues."""

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from cim_lightning.atomic import replacing, sync
from cim_lightning.errors import ConfigError

STEP = "step"


class ResumableCSVLogger(Logger):
    """Log to one CSV file. A repeated step updates its row.

    Args:
        path: file to continue; an unfinished last line, left by a killed run, is dropped.
    """

    def __init__(self, path: str):
        super().__init__()
        self.path = Path(path)
        self.columns: list[str] = []  # empty until the first save, which therefore rewrites an existing file
        self.last_step = -1
        self.pending: dict[int, dict[str, Any]] = {}  # by step

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        step = step or 0
        self.pending.setdefault(step, {STEP: step}).update(metrics)

    @rank_zero_only
    def save(self) -> None:
        if not self.pending:
            return
        new = {key for row in self.pending.values() for key in row}.difference(self.columns)
        if new or min(self.pending) <= self.last_step:
            self._rewrite()
        else:
            with self.path.open("a", newline="") as file:
                rows = (self.pending[step] for step in sorted(self.pending))
                csv.DictWriter(file, self.columns).writerows(rows)
        self.last_step = max(self.last_step, *self.pending)
        self.pending = {}

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()

    @rank_zero_only
    def drop_rows(self, step: int) -> None:
        """Remove the rows of a step and of all later ones, which training repeats."""
        self.save()
        rows = self._read()
        if kept := {number: row for number, row in rows.items() if number < step}:
            self._write(kept)
        else:
            self.path.unlink(missing_ok=True)
            self.columns, self.last_step = [], -1

    @rank_zero_only
    def sync(self) -> None:
        """Wait until all rows are on disk."""
        self.save()
        if self.path.exists():
            sync(self.path)

    def _rewrite(self) -> None:
        rows = self._read()
        for step, row in self.pending.items():
            rows[step] = rows.get(step, {}) | row
        self._write(rows)

    def _read(self) -> dict[int, dict[str, Any]]:
        """Return the complete rows of the file by step."""
        if not self.path.exists():
            return {}
        try:
            with self.path.open(newline="") as file:
                complete = csv.DictReader(line for line in file if line.endswith("\n"))
                return {int(row[STEP]): row for row in complete}
        except (ValueError, LookupError, csv.Error) as error:
            raise ConfigError(f"{self.path}: not the metrics of a run; move the file away") from error

    def _write(self, rows: dict[int, dict[str, Any]]) -> None:
        columns = list(dict.fromkeys(key for row in rows.values() for key in row))
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows[step] for step in sorted(rows))
        self.columns, self.last_step = columns, max(rows)
