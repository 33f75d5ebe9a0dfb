"""Weights & Biases logger, online or into files to synchronize later."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_only

from cim_lightning.metric_registry import Metric, before_after
from cim_lightning.versions import versions

STEP = "trainer/global_step"


class WandbLogger(loggers.WandbLogger):
    """Lightning's logger with the training step as wandb's step; the arguments are Lightning's.

    wandb's own counter starts at 0 in every offline folder. The second part of a resumed run would overwrite
    the first one on synchronization.
    """

    last_step = 0  # wandb rejects earlier steps

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        super().log_hyperparams(params)
        self.experiment.config.update(versions(), allow_val_change=True)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        self.last_step = max(self.last_step, step or 0)
        self.experiment.log({**metrics, STEP: self.last_step}, step=self.last_step)

    @rank_zero_only
    def log_summary(self, numbers: Mapping[str, Any], metrics: Mapping[str, Metric]) -> None:
        """Log the results of a run: all numbers as wandb's summary, and two tables.

        Args:
            numbers: content of `metrics.json`, and the results of the evaluation as "evaluation/...".
            metrics: titles and units, by the names in `numbers`.
        """
        # A new step if the run finished earlier: wandb online drops rows of logged steps.
        self.last_step = max(self.last_step or numbers.get("steps", 0), self.experiment.step)
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
