"""When a checkpoint is saved, and its counters (tests/config/test_resume.py has whole runs)."""

import signal
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from cim_lightning.callbacks import checkpoints
from cim_lightning.callbacks.checkpoints import LastCheckpoint


class Run:
    """A trainer that counts its saves, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, world_size: int = 1):
        self.now, self.saves = 0.0, 0
        monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(checkpoints.signal, "signal", lambda *args: None)
        self.accumulating = self.last = False
        counters = SimpleNamespace(current=SimpleNamespace(ready=3), is_last_batch=False)
        self.loop = SimpleNamespace(batch_progress=counters, _should_accumulate=lambda: self.accumulating)
        self.trainer: Any = MagicMock(spec=L.Trainer, world_size=world_size)
        self.trainer.fit_loop = SimpleNamespace(epoch_loop=self.loop)
        self.trainer.strategy = SimpleNamespace(broadcast=lambda value: value)
        self.trainer.save_checkpoint = self._save
        self.callback = LastCheckpoint(str(tmp_path), every_minutes=5)
        self.module: Any = MagicMock(spec=L.LightningModule)
        self.callback.on_train_start(self.trainer, self.module)

    def _save(self, path: Any) -> None:
        self.saves += 1

    def batch(self, minute: float, accumulating: bool = False, last: bool = False) -> None:
        self.now, self.accumulating, self.loop.batch_progress.is_last_batch = minute * 60, accumulating, last
        self.callback.on_train_batch_start(self.trainer, self.module, None, 0)
        self.callback.on_train_batch_end(self.trainer, self.module, None, None, 0)


@pytest.fixture
def run(monkeypatch, tmp_path) -> Run:
    return Run(monkeypatch, tmp_path)


def test_it_saves_every_few_minutes_between_steps(run):
    saves = []
    for minute, accumulating in ((4, False), (5, True), (5, False), (9, False), (10, False)):
        run.batch(minute, accumulating)
        saves.append(run.saves)
    assert saves == [0, 0, 1, 1, 2]


def test_after_the_last_batch_of_an_epoch_the_epoch_end_saves(run):
    run.batch(6, last=True)
    assert run.saves == 0
    run.callback.on_train_epoch_end(run.trainer, run.module)
    assert run.saves == 1


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SIGTERMException)]
)
def test_a_stop_waits_for_the_end_of_the_step(run, number, raised):
    run.callback._on_signal(number, None)
    run.batch(1, accumulating=True)
    assert run.saves == 0
    run.batch(1)
    assert run.saves == 1  # not yet stopped: Lightning logs this step first
    with pytest.raises(raised) as caught:
        run.callback.on_train_batch_start(run.trainer, run.module, None, 0)
    if number == signal.SIGTERM:
        assert caught.value.code == 143


def test_a_stop_in_the_last_step_waits_for_the_end_of_the_epoch(run):
    run.callback._on_signal(signal.SIGTERM, None)
    run.batch(1, last=True)
    with pytest.raises(SIGTERMException):
        run.callback.on_train_epoch_end(run.trainer, run.module)
    assert run.saves == 1


def test_a_second_ctrl_c_raises_at_once(run):
    run.callback._on_signal(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        run.callback._on_signal(signal.SIGINT, None)


def test_an_error_saves_between_steps_only(run):
    run.batch(1)
    run.callback.on_exception(run.trainer, run.module, ValueError())
    assert run.saves == 1
    run.callback.on_exception(run.trainer, run.module, ValueError())
    run.batch(2)
    run.callback.on_train_batch_start(run.trainer, run.module, None, 0)
    run.callback.on_exception(run.trainer, run.module, ValueError())
    assert run.saves == 1


def test_an_error_does_not_save_with_several_devices(monkeypatch, tmp_path):
    run = Run(monkeypatch, tmp_path, world_size=2)
    run.batch(1)
    run.callback.on_exception(run.trainer, run.module, ValueError())
    assert run.saves == 0


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
