"""`metrics.csv`: one row per step, which a resumed run continues."""

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from cim_lightning.atomic import replacing

STEP = "step"


class ResumableCSVLogger(Logger):
    """Log to one CSV file; a step that the file has already is updated.

    Args:
        path: file to continue; a last line that a killed run left unfinished is dropped.
    """

    def __init__(self, path: str):
        super().__init__()
        self.path = Path(path)
        self.columns = [STEP]
        self.last_step = -1  # in the file
        self.intact = True
        self.pending: dict[int, dict[str, Any]] = {}
        if self.path.exists():
            rows = self._rows()
            self.columns = list(rows[0]) if rows else self.columns
            self.last_step = max((int(row[STEP]) for row in rows), default=-1)
            self.intact = self.path.read_bytes()[-1:] in (b"\n", b"")

    @property
    def name(self) -> str:
        return "csv"

    @property
    def experiment(self) -> None:
        """None: no object of another library is behind this logger."""

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self.pending.setdefault(step or 0, {}).update(metrics)

    @rank_zero_only
    def save(self) -> None:
        if not self.pending:
            return
        new = [key for row in self.pending.values() for key in row if key not in self.columns]
        if new or min(self.pending) <= self.last_step or not self.intact or not self.path.exists():
            self._rewrite(list(dict.fromkeys([*self.columns, *new])))
        else:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns).writerows(self._pending_rows())
        self.last_step = max(self.last_step, *self.pending)
        self.pending = {}

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()

    def _rewrite(self, columns: list[str]) -> None:
        rows = {int(row[STEP]): row for row in self._rows()} if self.path.exists() else {}
        for row in self._pending_rows():
            rows[row[STEP]] = rows.get(row[STEP], {}) | row
        self.columns = columns
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows[step] for step in sorted(rows))
        self.intact = True

    def _pending_rows(self) -> list[dict[str, Any]]:
        return [{STEP: step} | self.pending[step] for step in sorted(self.pending)]

    def _rows(self) -> list[dict[str, Any]]:
        with self.path.open(newline="") as file:
            return list(csv.DictReader(line for line in file if line.endswith("\n")))
