"""Weights & Biases logger, online or into files to synchronize later."""

import logging
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import loggers
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from cim_lightning.checks import check_one_of
from cim_lightning.errors import ConfigError
from cim_lightning.loggers import wandb_rows
from cim_lightning.metric_registry import Metric, before_after
from cim_lightning.versions import versions

STEP = "trainer/global_step"
MODES = ("online", "offline", "shared", "disabled", "run", "dryrun")  # the last two are wandb's old names

log = logging.getLogger("cim_lightning")


class WandbLogger(loggers.WandbLogger):
    """Lightning's logger with the training step as wandb's step.

    wandb's own counter starts at 0 in every offline folder. The second part of a resumed run would overwrite
    the first one on synchronization. A run that cannot start online starts offline.

    A killed run lacks the rows that wandb had not yet written. The resumed run logs them again, from the
    file of the CSV logger, and skips the rows that wandb has.

    Args:
        rows: `metrics.csv` of the run; None: lost rows stay lost.
        project, id, name, group, job_type, notes, tags, mode, settings: of `wandb.init`.
        kwargs: other arguments of Lightning's logger or of `wandb.init`.

    Raises:
        ConfigError: wandb has no such mode; at the first use, it refuses another setting.
    """

    last_step = 0  # wandb rejects earlier steps

    def __init__(
        self,
        rows: str | None = None,
        project: str | None = None,
        id: str | None = None,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        notes: str | None = None,
        tags: list[str] | None = None,
        mode: str | None = None,
        settings: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        if mode is not None:
            check_one_of("mode", mode, MODES)
        self.rows, self.logged = rows, {}
        run = {"group": group, "job_type": job_type, "notes": notes, "tags": tags, "mode": mode}
        super().__init__(name=name, id=id, project=project, settings=settings, **run, **kwargs)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of wandb, which starts at the first use."""
        import wandb  # slow to import

        if self._experiment is None and self._wandb_init["id"] is not None:
            parts = wandb_rows.offline_parts(Path(self._save_dir or "."), self._wandb_init["id"])
            self.logged = wandb_rows.logged_rows(parts)
        try:
            return super().experiment
        except Exception as error:  # of many classes: no key, no network, no answer, a refused name
            if self._wandb_init["mode"] not in ("online", "run", None):
                raise _refused(error) from error
            reason = _one_line(error)
        wandb.teardown()  # otherwise the service still has the run that did not start
        self._wandb_init["mode"] = "offline"
        try:
            run = super().experiment
        except Exception as error:
            raise _refused(error) from error
        folder = shlex.quote(str(Path(run.dir).parent))
        log.warning("wandb: offline (%s); to upload the run later: wandb sync %s", reason, folder)
        return run

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        super().log_hyperparams(params)
        self.experiment.config.update(versions(), allow_val_change=True)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if metrics.keys() <= self.logged.get(step or 0, set()):
            return
        self.last_step = max(self.last_step, step or 0)
        self.experiment.log({**metrics, STEP: self.last_step}, step=self.last_step)

    @rank_zero_only
    def drop_rows(self, step: int) -> None:
        """Log the lost rows before a step, from which training resumes."""
        if self.rows is None:
            return
        started = getattr(self.experiment, "starting_step", 0)  # above 0: online, and the server has the rows
        lost = wandb_rows.lost_rows(Path(self.rows), max([started - 1, *self.logged]), step)
        for number, row in lost.items():
            self.log_metrics(row, number)

    @rank_zero_only
    def sync(self) -> None:
        """Do nothing: the lost rows are logged when the run resumes."""

    @rank_zero_only
    def log_summary(self, numbers: Mapping[str, Any], metrics: Mapping[str, Metric]) -> None:
        """Log the results of a run: all numbers as wandb's summary, and two tables.

        Args:
            numbers: content of `metrics.json`, and the results of the evaluation as "evaluation/...".
            metrics: titles and units, by the names in `numbers`.
        """
        # A new step if the run finished earlier: wandb online drops rows of logged steps.
        after = max(self.experiment.step, max(self.logged, default=-1) + 1)
        self.last_step = max(self.last_step or numbers.get("steps", 0), after)
        known = [metric for name, metric in metrics.items() if name.startswith("val/")]
        rows = [[metric.name, *values, metric.unit] for metric, *values in before_after(numbers, known)]
        columns = ["metric", "before", "after", "mean-map baseline", "unit"]
        self.log_table("tables/pretraining", columns, rows, step=self.last_step)
        rows = [
            [name.split("/")[1], metric.title, float(numbers[name]), metric.unit]
            for name, metric in metrics.items()
            if name.startswith("evaluation/")
        ]
        if rows:
            columns = ["evaluator", "metric", "value", "unit"]
            self.log_table("tables/evaluation", columns, rows, step=self.last_step)
        self.experiment.summary.update(dict(numbers))

    @rank_zero_only
    def close(self) -> None:
        """Finish the run, so that the next logger of this process starts another one."""
        if self._experiment is not None:
            self._experiment.finish()
            self._experiment = None


def _refused(error: Exception) -> ConfigError:
    return ConfigError(f"logger.wandb: {_one_line(error)}; for a run without wandb, try logger=csv")


def _one_line(error: Exception) -> str:
    """Return the reason of an error of wandb, without the advice to raise a timeout."""
    text = str(error)
    if found := re.search(r"Value error, (.*?) \[type=", text, re.DOTALL):  # of pydantic
        text = found[1]
    return " ".join(text.partition("\nConsider")[0].split()).rstrip(".")
