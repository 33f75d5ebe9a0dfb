"""When a checkpoint is saved, and its counters (tests/config/test_resume.py has whole runs)."""

import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import pytest
import torch

from cim_lightning import stop_signals
from cim_lightning.callbacks import checkpoints
from cim_lightning.callbacks.checkpoints import LastCheckpoint, save_now
from cim_lightning.stop_signals import Stopped


class Logger:
    """A logger that keeps rows, and notes what happens to them."""

    def __init__(self, events: list[str]):
        self.events = events

    def save(self) -> None:
        self.events.append("rows")

    def sync(self) -> None:
        self.events.append("sync")

    def drop_rows(self, step: int) -> None:
        self.events.append(f"drop {step}")


class Run:
    """A trainer that notes its saves, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, world_size: int = 1, rank: int = 0):
        self.now = 0.0
        self.events: list[str] = []
        monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.accumulating = False
        counters = SimpleNamespace(current=SimpleNamespace(ready=3), is_last_batch=False)
        self.loop = SimpleNamespace(batch_progress=counters, _should_accumulate=lambda: self.accumulating)
        self.trainer: Any = MagicMock(
            spec=L.Trainer, world_size=world_size, is_global_zero=rank == 0, ckpt_path=None, max_steps=-1
        )
        self.trainer.global_step, self.trainer.should_stop = 0, False
        self.trainer.state = SimpleNamespace(fn="fit")
        self.trainer.fit_loop = SimpleNamespace(epoch_loop=self.loop)
        self.trainer.loggers = [Logger(self.events)]
        self.others = torch.tensor([0, 0])  # what the other devices contribute: due, signal
        device = torch.device("cpu")
        self.trainer.strategy = SimpleNamespace(reduce=self._reduce, root_device=device, launcher=None)
        self.trainer.save_checkpoint = lambda path: self.events.append("save")
        self.callback = LastCheckpoint(str(tmp_path), every_minutes=5)
        self.trainer.checkpoint_callbacks = [self.callback]
        self.module: Any = MagicMock(spec=L.LightningModule)
        self.callback.on_train_start(self.trainer, self.module)

    def _reduce(self, tensor: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "max"
        return torch.maximum(tensor, self.others)

    @property
    def saves(self) -> int:
        return self.events.count("save")

    def step(self, minute: float, accumulating: bool = False, last: bool = False) -> None:
        """Train one batch, which ends at a minute."""
        self.start_batch()
        self.now, self.accumulating, self.loop.batch_progress.is_last_batch = minute * 60, accumulating, last
        self.trainer.global_step += not accumulating
        self.callback.on_train_batch_end(self.trainer, self.module, None, None, 0)

    def start_batch(self) -> None:
        self.callback.on_train_batch_start(self.trainer, self.module, None, 0)

    def end_epoch(self) -> None:
        self.callback.on_train_epoch_end(self.trainer, self.module)


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    stop_signals.uninstall()


@pytest.fixture
def run(monkeypatch, tmp_path) -> Run:
    return Run(monkeypatch, tmp_path)


def test_it_saves_every_few_minutes_between_steps(run):
    saves = []
    for minute, accumulating in ((4, False), (5, True), (5, False), (9, False), (10, False), (10, False)):
        run.step(minute, accumulating)
        saves.append(run.saves)
    assert saves == [
        0,
        0,
        0,
        1,
        1,
        2,
    ]  # at the start of the next batch: Lightning has logged the step by then


def test_rows_are_on_disk_before_the_checkpoint(run):
    run.step(6)
    run.start_batch()
    assert run.events == ["rows", "sync", "save"]


def test_a_resumed_run_drops_the_rows_that_it_repeats(monkeypatch, tmp_path):
    run = Run(monkeypatch, tmp_path)
    assert run.events == []  # the row of the first validation stays
    run.trainer.ckpt_path, run.trainer.global_step = "last.ckpt", 7
    run.callback.on_train_start(run.trainer, run.module)
    assert run.events == ["drop 7"]


def test_an_epoch_is_saved_when_its_metrics_are_logged(run):
    run.step(6, last=True)
    run.end_epoch()
    assert run.saves == 0
    run.callback.on_train_epoch_start(run.trainer, run.module)
    assert run.saves == 1
    run.step(7, last=True)
    run.end_epoch()
    run.callback.on_train_end(run.trainer, run.module)
    assert run.saves == 2


@pytest.mark.parametrize("reason", ["max_steps", "should_stop"])
def test_the_last_step_is_saved_after_its_validation(reason, run):
    setattr(run.trainer, reason, 1)
    run.step(6)
    run.start_batch()
    assert run.saves == 0


@pytest.mark.parametrize("number", stop_signals.SIGNALS)
def test_a_stop_waits_for_the_end_of_the_step(run, number):
    run.start_batch()
    signal.raise_signal(number)
    run.step(1, accumulating=True)
    run.step(1)
    assert run.saves == 0
    with pytest.raises(Stopped) as stopped:
        run.start_batch()
    assert run.saves == 1
    assert stopped.value.code == 128 + number
    assert stop_signals.outcome().startswith("saved at step 1 in ")


def test_a_stop_in_a_validation_waits_for_the_end_of_the_epoch(run):
    run.step(1, last=True)
    run.callback.on_validation_start(run.trainer, run.module)
    with stop_signals.interruptible():
        signal.raise_signal(signal.SIGTERM)
    run.end_epoch()
    with pytest.raises(Stopped):
        run.callback.on_train_epoch_start(run.trainer, run.module)
    assert run.saves == 1


def test_the_validation_before_training_ends_at_once(run):
    run.trainer.state.fn = "validate"
    run.callback.on_validation_start(run.trainer, run.module)
    with pytest.raises(Stopped):
        signal.raise_signal(signal.SIGTERM)


def test_a_stop_while_waiting_for_data_saves_between_steps(run):
    run.step(1)
    with pytest.raises(Stopped) as stopped, stop_signals.interruptible():
        signal.raise_signal(signal.SIGTERM)
    run.callback.on_exception(run.trainer, run.module, stopped.value)
    assert run.saves == 1


def test_an_error_saves_between_steps_only(run):
    run.step(1)
    run.callback.on_exception(run.trainer, run.module, ValueError())
    assert run.saves == 1
    run.callback.on_exception(run.trainer, run.module, ValueError())
    run.step(2)
    run.start_batch()
    run.callback.on_exception(run.trainer, run.module, ValueError())
    assert run.saves == 1


def test_others_can_save_between_steps(run):
    assert not save_now(run.trainer)
    run.step(1)
    assert save_now(run.trainer)
    assert run.saves == 1


def test_an_error_does_not_save_with_several_devices(monkeypatch, tmp_path):
    run = Run(monkeypatch, tmp_path, world_size=2)
    run.step(1)
    run.callback.on_exception(run.trainer, run.module, ValueError())
    assert run.saves == 0


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_any_device_stops_all_at_the_same_step(rank, monkeypatch, tmp_path):
    run = Run(monkeypatch, tmp_path, world_size=2, rank=rank)
    monkeypatch.setattr(checkpoints, "SYNC_EVERY", 3)
    run.others = torch.tensor([0, signal.SIGTERM])
    for _ in range(3):
        run.step(1)
        assert run.saves == 0
    with pytest.raises(Stopped) as stopped:
        run.start_batch()
    assert run.saves == 1
    assert stopped.value.code == (0 if rank else 143)  # launchers kill the first process if another one fails


@pytest.mark.parametrize(("rank", "saves"), [(0, 1), (1, 0)])
def test_the_clock_of_the_first_device_decides(rank, saves, monkeypatch, tmp_path):
    run = Run(monkeypatch, tmp_path, world_size=2, rank=rank)
    monkeypatch.setattr(checkpoints, "SYNC_EVERY", 1)
    run.step(6)
    run.start_batch()
    assert run.saves == saves


def test_after_training_a_signal_ends_the_process_at_once(monkeypatch, tmp_path):
    stop_signals.install()  # as a command does
    run = Run(monkeypatch, tmp_path)
    run.step(1, last=True)
    run.end_epoch()
    run.callback.on_train_end(run.trainer, run.module)
    with pytest.raises(Stopped):
        signal.raise_signal(signal.SIGTERM)


def test_without_a_command_training_alone_handles_signals(run):
    assert signal.getsignal(signal.SIGTERM) is stop_signals._on_signal
    run.callback.on_train_end(run.trainer, run.module)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def counter(ready: int, started: int, processed: int, completed: int) -> dict[str, int]:
    return {"ready": ready, "started": started, "processed": processed, "completed": completed}


@pytest.mark.parametrize(
    ("batches", "epochs", "last", "expected"),
    [
        ((8, 8, 8, 7), (2, 2, 1, 1), False, (3, 1)),  # at the end of batch 3 of epoch 1
        ((9, 8, 8, 8), (2, 2, 1, 1), False, (3, 1)),  # at the start of the next batch
        ((10, 10, 10, 10), (2, 2, 1, 1), True, (0, 2)),  # at the end of validation
        ((10, 10, 10, 10), (2, 2, 2, 1), True, (0, 2)),  # at the end of the epoch
        ((8, 8, 8, 8), (2, 2, 2, 1), False, (3, 1)),  # after max_steps inside an epoch
    ],
)
def test_counters_are_normalized_to_some_batches_into_an_epoch_or_to_its_start(
    batches, epochs, last, expected, run
):
    total, current = counter(*batches), counter(*(count - 5 for count in batches))
    progress = {"total": total, "current": current, "is_last_batch": last}
    both = {"total": counter(*epochs), "current": counter(*epochs)}
    loop = {"epoch_loop.batch_progress": progress, "epoch_progress": both, "epoch_loop.state_dict": {}}
    checkpoint = {"loops": {"fit_loop": loop}, "global_step": 4}
    run.callback.on_load_checkpoint(run.trainer, run.module, checkpoint)
    batch, epoch = expected
    assert progress["total"] == counter(*[batches[2]] * 4)
    assert progress["current"] == counter(*[batch] * 4)
    assert progress["is_last_batch"] is False
    assert both["current"] == both["total"] == counter(2, 2, epoch, epoch)
    assert loop["epoch_loop.state_dict"]["_batches_that_stepped"] == 4
