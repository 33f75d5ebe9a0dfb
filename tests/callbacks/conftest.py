"""Fixtures for callbacks: a mocked trainer and a clock."""

from collections.abc import Callable
from unittest.mock import Mock

import lightning as L
import pytest


@pytest.fixture
def make_trainer() -> Callable[..., Mock]:
    """Make a trainer in the middle of 10 epochs of 10 steps; keyword arguments replace its attributes."""

    def make(fn: str = "fit", **changes) -> Mock:
        state = {"world_size": 1, "global_step": 50, "current_epoch": 4, "max_epochs": 10, "loggers": []}
        state |= {"estimated_stepping_batches": 100, "is_global_zero": True, "callback_metrics": {}}
        trainer = Mock(spec=L.Trainer, **state | changes)
        trainer.state = Mock(fn=fn)
        return trainer

    return make


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Stop the clock; calling the fixture advances it by seconds."""
    now = [1000.0]

    def advance(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return advance
