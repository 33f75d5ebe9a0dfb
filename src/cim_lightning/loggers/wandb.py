"""Weights & Biases logger, online or into files to synchronize later."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_only

from cim_lightning.metric_registry import before_after
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
    def log_summary(self, numbers: Mapping[str, Any]) -> None:
        """Log the results of a run: all numbers as wandb's summary, and two tables.

        Args:
            numbers: content of `metrics.json`, and the results of the evaluation as "evaluation/...".
        """
        # A new step if the run finished earlier: wandb online drops rows of logged steps.
        self.last_step = max(self.last_step or numbers.get("steps", 0), self.experiment.step)
        rows = [[metric.name, *values] for metric, *values in before_after(numbers)]
        columns = ["metric", "before", "after", "mean-map baseline"]
        self.log_table("tables/pretraining", columns, rows, step=self.last_step)
        names = [name for name in numbers if name.startswith("evaluation/") and name.count("/") > 1]
        if rows := [[*name.split("/", 2)[1:], float(numbers[name])] for name in names]:
            self.log_table("tables/evaluation", ["evaluator", "metric", "value"], rows, step=self.last_step)
        self.experiment.summary.update(dict(numbers))
