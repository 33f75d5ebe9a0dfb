"""Metrics of steps: the same rows and callback metrics as from `LightningModule.log`, in fewer calls."""

import csv
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from cim_lightning import step_metrics
from cim_lightning.loggers.csv import ResumableCSVLogger
from cim_lightning.step_metrics import StepMetrics

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:The number of training"
)


class Plain(L.LightningModule):
    """Logs a tensor and two numbers in every step; one of them is missing in the first step of an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))
        self.seen: list[dict[str, float]] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = self.weight * batch.float().mean()
        self.log_step(
            {"train/loss": loss, "train/half": loss.detach().bfloat16(), "train/index": batch_idx / 3}
        )
        if batch_idx:
            self.log_step({"train/late": 0.1 * batch_idx})
        return loss

    def log_step(self, values: dict[str, Any]) -> None:
        self.log_dict(values)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.weight.detach())

    def on_validation_end(self) -> None:
        metrics = self.trainer.callback_metrics
        self.seen.append({n: float(v) for n, v in metrics.items() if n.startswith("train/")})

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


class Collected(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.step_metrics = StepMetrics()

    def log_step(self, values: dict[str, Any]) -> None:
        self.step_metrics.update(values)

    def on_train_epoch_start(self) -> None:
        self.step_metrics.clear()

    def on_train_batch_end(self, *args: Any) -> None:
        self.step_metrics.log(self)


class Stop(L.Callback):
    """Stop the training in a step that would not be logged."""

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        trainer.should_stop = trainer.global_step == 11


def fit(module: Plain, folder: Path, **options: Any) -> tuple[list[dict[str, str]], dict[str, float]]:
    """Return the rows of metrics.csv and the callback metrics at the end."""
    path = folder / f"{type(module).__name__}.csv"
    trainer = L.Trainer(
        **{
            "max_epochs": 3,
            "log_every_n_steps": 3,
            "accelerator": "cpu",
            "logger": ResumableCSVLogger(str(path)),
        },
        **{"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False},
        **{"num_sanity_val_steps": 0, "callbacks": [Stop()]},
        **options,
    )
    batches: tuple[Any, Any] = [torch.arange(4) + i for i in range(8)], [torch.zeros(1)]
    trainer.fit(module, *(DataLoader(part, batch_size=None) for part in batches))
    with path.open() as file:
        rows = [*csv.DictReader(file)]
    return rows, {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize(
    "options", [{}, {"accumulate_grad_batches": 3}, {"val_check_interval": 4}, {"max_steps": 5}]
)
def test_rows_and_callback_metrics_are_those_of_lightning(options, tmp_path):
    plain, collected = Plain(), Collected()
    expected, found = (fit(module, tmp_path, **options) for module in (plain, collected))
    assert found == expected
    assert found[0]
    assert list(found[0][0]) == list(expected[0][0])  # the order of columns
    assert collected.seen == plain.seen


def test_a_step_that_is_not_logged_reads_no_value(tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(step_metrics, "log_step", lambda trainer, metrics: logged.append(trainer.global_step))
    module = Collected()
    trainer_options = {"max_steps": 7, "limit_val_batches": 0}
    with pytest.raises(FileNotFoundError):  # nothing was logged
        fit(module, tmp_path, **trainer_options)
    assert logged == [3, 6, 7]  # and the last one, for callbacks


def test_values_are_copied():
    metrics, value = StepMetrics(), torch.tensor(1.0)
    metrics.update({"a": value, "b": 2, "c": torch.tensor([3.0], dtype=torch.float64)})
    value.fill_(5.0)
    assert metrics.to_host() == {"a": 1.0, "b": 2.0, "c": 3.0}
