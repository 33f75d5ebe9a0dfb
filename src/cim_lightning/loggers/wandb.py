"""Weights & Biases: what a run tells it, online or into files that are synchronized later."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_only

from cim_lightning.versions import versions

STEP = "trainer/global_step"
TABLE = {"before": "initial/", "after": "val/"}
CONSTANT = "_constant"  # of the constant map


class WandbLogger(loggers.WandbLogger):
    """Lightning's logger, whose rows are numbered by the training step instead of in the order of calls.

    So a run that was interrupted and goes on logs the steps after its checkpoint under the numbers that they
    had. wandb's own counter starts at 0 in every offline folder, and what is synchronized second would stand
    where the first part stood. Arguments are WandbLogger's, and through it wandb.init's.
    """

    reached = 0  # a row is closed once a later one is begun

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        super().log_hyperparams(params)
        self.experiment.config.update(versions(), allow_val_change=True)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        self.reached = max(self.reached, self.reached if step is None else step)
        self.experiment.log({**metrics, STEP: self.reached}, step=self.reached)

    @rank_zero_only
    def conclude(self, numbers: Mapping[str, Any]) -> None:
        """Tells what a run amounts to: every number in the summary, by its name, and two tables.

        Args:
            numbers: `metrics.json`, and that of an evaluation as "evaluation/...".
        """
        # Of a run that ended before, a row of its own: online, wandb takes none that it has already.
        self.reached = max(self.reached or numbers.get("steps", 0), self.experiment.step)
        rows = [
            [name.removeprefix("val/"), *_row(numbers, name.removeprefix("val/"))]
            for name in numbers
            if name.startswith("val/") and not name.endswith(CONSTANT)
        ]
        self.log_table("tables/pretraining", ["measure", *TABLE, "constant map"], rows, step=self.reached)
        judged = [
            [part, measure, float(value)]
            for (_, part, measure), value in (
                (name.split("/", 2), value)
                for name, value in numbers.items()
                if name.startswith("evaluation/") and name.count("/") > 1
            )
        ]
        if judged:
            self.log_table("tables/evaluation", ["part", "measure", "value"], judged, step=self.reached)
        self.experiment.summary.update(dict(numbers))


def _row(numbers: Mapping[str, Any], measure: str) -> list[float | None]:
    keys = [*(f"{prefix}{measure}" for prefix in TABLE.values()), f"val/{measure}{CONSTANT}"]
    return [numbers.get(key) for key in keys]
