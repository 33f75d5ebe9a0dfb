"""What the trial records in a few steps of a training."""

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from cim_lightning.doctor import trial as module
from cim_lightning.doctor.trial import Trial, trial_findings


class Widen(nn.Module):
    """Returns float32, as normalization layers do on a GPU."""

    def forward(self, values):
        return values.float()


class Network(L.LightningModule):
    """A network with a part that the loss does not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(2, 1)
        self.used = nn.Sequential(nn.Linear(2, 1, bias=False), Widen())
        self.frozen = nn.Linear(2, 1).requires_grad_(False)

    def training_step(self, batch, batch_idx):
        return self.used(batch).sum() + self.frozen(batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def recorded(monkeypatch):
    """Return the trial and the network after two steps on a batch of ones, in bf16."""
    monkeypatch.setattr(module, "num_images", len)
    network, trial = Network(), Trial()
    trainer = L.Trainer(
        accelerator="cpu",
        precision="bf16-mixed",
        callbacks=[trial],
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(network, DataLoader(torch.ones(8, 2), batch_size=4))
    return trial, network


@pytest.mark.filterwarnings(
    "ignore:The 'train_dataloader' does not have many workers", "ignore:.*GPU available"
)
def test_types_gradients_and_parts_without_gradient(recorded):
    trial, network = recorded
    assert trial.dtypes == {"used": {"bfloat16", "float32"}, "frozen": {"bfloat16"}}
    assert [float(norm) for norm in trial.norms] == pytest.approx([32**0.5] * 2)  # the gradient is (4, 4)
    rows = {f.name: f for f in trial_findings(trial, network, clip=1.0)}
    assert rows["data type of weights"].value == "float32"
    assert rows["data type of outputs"].value == "used bfloat16 and float32, frozen bfloat16"
    assert rows["without gradient"].value == "unused.bias, unused.weight"
    assert rows["without gradient"].problem
    assert rows["gradient norm"].value == "5.66, 5.66; clipped to 1 in 2 of the first 2 steps"
    assert not rows["gradient norm"].problem
    assert trial.images == 4
    assert len(trial.seconds) == 2
    assert trial.step_bytes > 0
    trial.norms.append(torch.tensor(float("nan")))
    assert trial_findings(trial, network, None)[-1].problem
