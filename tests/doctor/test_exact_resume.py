"""The proof of exact resume finds trainings that are not repeated or not resumed exactly."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from cim_lightning.doctor.exact_resume import PARTS, STEPS, verify_resume
from cim_lightning.doctor.finding import problems

CALLS = 0  # of this process


class Network(L.LightningModule):
    """A network whose loss has a factor from somewhere."""

    def __init__(self, factor: str):
        super().__init__()
        self.layer, self.factor, self.unsaved = nn.Linear(3, 2), factor, 0

    def training_step(self, batch, batch_idx):
        global CALLS
        CALLS, self.unsaved = CALLS + 1, self.unsaved + 1
        factor = {"none": 1, "process": CALLS, "unsaved": self.unsaved}[self.factor]
        return factor * self.layer(batch).square().sum()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.1)


class Images(L.LightningDataModule):
    """Equal batches, without a position to save."""

    def train_dataloader(self):
        return DataLoader(torch.arange(3.0).expand(64, 3), batch_size=2)


@pytest.mark.filterwarnings(
    "ignore:The 'train_dataloader' does not have many workers", "ignore:You're resuming from"
)
@pytest.mark.parametrize(
    ("factor", "different"), [("none", set()), ("process", {"repeated", "resumed"}), ("unsaved", {"resumed"})]
)
def test_differences_are_found(tmp_path, factor, different):
    def build(folder, resumed):
        folder.mkdir()
        torch.manual_seed(0)
        trainer = L.Trainer(
            accelerator="cpu",
            max_steps=STEPS,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        return SimpleNamespace(method=Network(factor), data=Images(), trainer=trainer)

    rows = verify_resume(build, tmp_path)
    assert [row.name for row in rows] == [
        f"{kind}: {part}" for kind in ("repeated", "resumed") for part in PARTS
    ]
    found = problems({"": rows})
    assert {line.split(":")[0] for line in found} == different
    if different:
        assert any("weights" in line for line in found)
        assert any("layer.weight differs by at most" in row.value for row in rows)
