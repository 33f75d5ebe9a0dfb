"""Random numbers of a training step depend on its number, not on earlier draws."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from cim_lightning.callbacks.step_seed import StepSeed, step_seed


def draw(seed: int = 0, rank: int = 0, processed: int = 0) -> float:
    trainer: Any = MagicMock(spec=L.Trainer, global_rank=rank)
    progress = SimpleNamespace(total=SimpleNamespace(processed=processed))
    trainer.fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    module: Any = SimpleNamespace(device=torch.device("cpu"))
    StepSeed(seed).on_train_batch_start(trainer, module, None, 0)
    return torch.rand(()).item()


class Draws(L.LightningModule):
    """Draws a random number in each batch, and trains on nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.drawn: dict[str, list[float]] = {"train": [], "val": []}

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.drawn["train"].append(torch.rand(()).item())

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.drawn["val"].append(torch.rand(()).item())

    def configure_optimizers(self) -> None:
        return None


def test_a_step_draws_the_same_numbers_after_other_draws():
    first = draw(processed=5)
    torch.rand(100)
    assert draw(processed=5) == first


def test_the_numbers_are_those_of_torch_manual_seed():
    number = draw(seed=3, rank=1, processed=5)
    torch.manual_seed(step_seed(3, rank=1, batch=5))
    assert torch.rand(()).item() == number


def test_seeds_ranks_and_steps_draw_different_numbers():
    draws = {draw(*case) for case in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1))}
    assert len(draws) == 6


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:`LightningModule.configure_opt")
def test_validation_changes_no_number_of_training_and_draws_the_same_ones_every_time():
    loader = DataLoader(range(4))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}

    def fit(**validation: Any) -> dict[str, list[float]]:
        options: dict[str, Any] = {"accelerator": "cpu", "max_epochs": 2, "enable_model_summary": False}
        module = Draws()
        trainer = L.Trainer(callbacks=[StepSeed(0)], num_sanity_val_steps=0, **options, **quiet, **validation)
        trainer.fit(module, loader, loader)
        return module.drawn

    validated, alone = fit(val_check_interval=2), fit(limit_val_batches=0)
    assert validated["train"] == alone["train"]
    assert validated["val"] == validated["val"][:4] * 4
    assert len({*validated["train"], *validated["val"]}) == 8 + 4
