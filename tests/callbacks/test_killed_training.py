"""A training that is killed or stopped at any moment ends as if nothing had happened."""

import csv
import itertools
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from cim_lightning import atomic, stop_signals
from cim_lightning.callbacks import run_summary
from cim_lightning.callbacks.checkpoints import LastCheckpoint
from cim_lightning.callbacks.run_summary import RunSummary
from cim_lightning.checkpoint_files import newest
from cim_lightning.checkpoint_io import AtomicCheckpointIO
from cim_lightning.flops import Flops
from cim_lightning.lightning_internals import batches_processed, leave_signals, quiet
from cim_lightning.loggers.csv import ResumableCSVLogger
from cim_lightning.stop_signals import Stopped

CLOCK = ("seconds", "images_per_s", "peak_memory_bytes", "git_commit")
BATCHES = 4  # per epoch
LENGTHS = {  # each with its number of steps; the second one ends inside an epoch, as with a budget
    "epochs": {"max_epochs": 2},
    "steps": {"max_steps": 6, "max_epochs": -1},
    "accumulated": {"max_epochs": 2, "accumulate_grad_batches": 2},
}


class Network(L.LightningModule):
    batch_size = global_batch_size = 2

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.layer(batch).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.layer(batch).square().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), 0.1)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Data(L.LightningDataModule):
    """Batches that are a function of their number, which the checkpoint has."""

    def __init__(self) -> None:
        super().__init__()
        self.first = 0

        self.splits = SimpleNamespace(train=range(100))

    def dummy_batch(self, num_images: int) -> Tensor:
        return torch.zeros(num_images, 3)

    def state_dict(self) -> dict[str, int]:
        return {"batches": max(batches_processed(self.trainer), self.first)}  # pyright: ignore

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.first = state_dict["batches"]

    def train_dataloader(self) -> Any:
        return DataLoader(Batches(), batch_size=None, sampler=Order(self))

    def val_dataloader(self) -> Any:
        return DataLoader(Batches(), batch_size=None, sampler=[0, 1])


class Order(Sampler[int]):
    def __init__(self, data: Data):
        self.data = data

    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.data.state_dict()["batches"])


class Batches(Dataset[Tensor]):
    def __len__(self) -> int:
        return 100

    def __getitem__(self, number: int) -> Tensor:
        with stop_signals.interruptible():
            wait_for_data()
        return torch.rand(2, 3, generator=torch.Generator().manual_seed(number))


def wait_for_data() -> None:
    """Tests replace this."""


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(run_summary, "flops_per_image", lambda *args: Flops(1.0, 2.0))
    monkeypatch.setattr(run_summary, "versions", dict)
    yield
    stop_signals.uninstall()


@quiet()
def train(folder: Path, callback: L.Callback | None = None, **length: Any) -> None:
    """Train in a folder, or resume there; save after every step."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    checkpoint = newest(folder / "checkpoints", "output_dir")
    logger = ResumableCSVLogger(str(folder / "metrics.csv"))
    if checkpoint is None:
        logger.drop_rows(0)
    callbacks = [RunSummary(str(folder)), LastCheckpoint(str(folder / "checkpoints"), every_minutes=0)]
    trainer = L.Trainer(
        accelerator="cpu",
        callbacks=[*callbacks, *([callback] if callback else [])],
        plugins=[AtomicCheckpointIO()],
        logger=logger,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        **length,
    )
    leave_signals(trainer).fit(Network(), Data(), ckpt_path=checkpoint)


def state(folder: Path) -> dict[str, Any]:
    """Return all that must be the same."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt")
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    metrics = json.loads((folder / "metrics.json").read_text())
    parts = {
        key: checkpoint[key] for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")
    }
    plain = json.loads(json.dumps(parts, default=lambda tensor: tensor.tolist()))
    return plain | {"rows": rows, "metrics": {k: v for k, v in metrics.items() if k not in CLOCK}}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Return the state after an uninterrupted training."""
    states: dict[str, Any] = {}

    def run(length: str) -> dict[str, Any]:
        if length not in states:
            folder = tmp_path_factory.mktemp("straight")
            train(folder, **LENGTHS[length])
            states[length] = state(folder)
        return states[length]

    return run


class At(L.Callback):
    """Does something in the nth call of a hook."""

    def __init__(self, hook: str, call: int, action: Callable[[], Any]):
        self.left, self.action = call, action
        setattr(self, hook, self._count)

    def _count(self, *args: Any, **kwargs: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.action()


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def kill() -> None:
    send(signal.SIGKILL)


def killed(task: Callable[[], None]) -> None:
    """Run a task that kills its process."""
    child = os.fork()
    if not child:
        try:
            torch.set_num_threads(1)  # threads of torch do not survive a fork
            task()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_the_straight_run_has_all_rows_and_epochs(straight):
    for length, steps, epochs in (("epochs", 8, 2), ("steps", 6, 2), ("accumulated", 4, 2)):
        found = straight(length)
        assert [row["step"] for row in found["rows"]] == [str(step) for step in range(steps)]
        assert (found["metrics"]["steps"], found["metrics"]["epochs"]) == (steps, epochs)
        assert float(found["rows"][-1]["val/loss"]) == pytest.approx(found["metrics"]["val/loss"])


@pytest.mark.fault(
    "signal", "SIGKILL at any moment", "the same command ends with the same weights and metrics"
)
@pytest.mark.parametrize(
    ("hook", "call", "length"),
    [
        ("on_train_start", 1, "epochs"),
        ("on_before_optimizer_step", 3, "epochs"),
        ("on_train_batch_start", 4, "epochs"),
        ("on_validation_end", 1, "steps"),
        ("on_train_epoch_start", 2, "epochs"),
        ("on_train_batch_end", 3, "accumulated"),
        ("on_validation_batch_end", 3, "epochs"),  # in the last validation
        ("on_validation_batch_end", 3, "steps"),
        ("on_validation_batch_end", 4, "accumulated"),
        ("on_train_end", 1, "steps"),
        ("teardown", 1, "epochs"),  # all is saved
        ("teardown", 1, "steps"),
    ],
)
def test_a_killed_training_ends_as_an_uninterrupted_one(hook, call, length, straight, tmp_path):
    expected = straight(length)
    killed(lambda: train(tmp_path, At(hook, call, kill), **LENGTHS[length]))
    if hook == "teardown":
        (tmp_path / "metrics.json").unlink()
    train(tmp_path, **LENGTHS[length])
    assert state(tmp_path) == expected


@pytest.mark.fault(
    "signal", "SIGKILL during a save", "the same command ends with the same weights and metrics"
)
@pytest.mark.parametrize(
    ("name", "save"), [("replace", 5), ("hardlink_to", 5), ("chmod", 5), ("fsync", 1), ("fsync", 5)]
)
def test_a_training_killed_in_a_save_ends_as_an_uninterrupted_one(
    name, save, straight, tmp_path, monkeypatch
):
    """Each name is a step of a save: after it, the process is killed."""
    owner: Any = os if name == "fsync" else Path
    original, left = getattr(owner, name), [save]

    def last(*args: Any, **options: Any) -> Any:
        original(*args, **options)
        left[0] -= "last.ckpt" in str(args) or name == "fsync"
        if left[0] == 0:
            kill()

    expected = straight("epochs")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, last)
        killed(lambda: train(tmp_path, **LENGTHS["epochs"]))
    atomic.remove_temporaries(tmp_path)
    train(tmp_path, **LENGTHS["epochs"])
    assert state(tmp_path) == expected
    assert not list(tmp_path.rglob(".*"))


PHASES = {  # hook and call, and after which step the training stops
    "a step": ("on_before_optimizer_step", 2, 2),
    "the first step": ("on_before_optimizer_step", 1, 1),
    "the last step of an epoch": ("on_before_optimizer_step", 4, 4),
    "a validation": ("on_validation_batch_end", 1, 4),
    "the last validation": ("on_validation_batch_end", 3, 8),
    "the end of an epoch": ("on_train_epoch_end", 1, 4),
    "a save": ("on_save_checkpoint", 2, 2),
}


@pytest.mark.parametrize(
    ("phase", "number"),
    [
        pytest.param(
            phase,
            number,
            marks=pytest.mark.fault("signal", "any, during training", "saved; exit code 128 + its number"),
        )
        for i, phase in enumerate(PHASES)
        for number in stop_signals.SIGNALS[i % 5 : i % 5 + 1]
    ],
)
def test_a_signal_saves_and_stops(phase, number, straight, tmp_path, capfd):
    hook, call, step = PHASES[phase]
    expected = straight("epochs")
    with pytest.raises(Stopped) as stopped:
        train(tmp_path, At(hook, call, lambda: send(number)), **LENGTHS["epochs"])
    assert stopped.value.code == 128 + number
    lines = capfd.readouterr().err
    (line,) = (line for line in lines.splitlines() if line.startswith("training: "))
    assert ("stops at the end of this validation" in lines) == ("validation" in phase)
    assert f"saved at step {step} in {tmp_path}/checkpoints/last.ckpt; run the same command to resume" in line
    train(tmp_path, **LENGTHS["epochs"])
    assert state(tmp_path) == expected


class Broken(Exception):
    """Raised inside a training."""


@pytest.mark.parametrize("length", LENGTHS)
def test_a_training_with_an_error_in_its_last_validation_repeats_it(length, straight, tmp_path):
    def fail() -> None:
        raise Broken

    expected = straight(length)
    with pytest.raises(Broken):
        train(tmp_path, At("on_validation_batch_end", 4, fail), **LENGTHS[length])
    train(tmp_path, **LENGTHS[length])
    assert state(tmp_path) == expected


@pytest.mark.fault("signal", "any, while training waits for data that does not come", "saved at once")
def test_a_signal_ends_a_wait_for_data(straight, tmp_path, monkeypatch):
    waits = itertools.count(1)

    def wait() -> None:
        if next(waits) == 3:
            threading.Timer(0.05, send, [signal.SIGTERM]).start()
            os.read(os.pipe()[0], 1)

    expected = straight("epochs")
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "wait_for_data", wait)
        with pytest.raises(Stopped):
            train(tmp_path, **LENGTHS["epochs"])
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 2
    train(tmp_path, **LENGTHS["epochs"])
    assert state(tmp_path) == expected
