"""The progress line: which figures, how often, and how long to go, by a clock that the test turns."""

from unittest.mock import Mock

import pytest
import torch

from cim_lightning.monitors.progress import LINES_EVERY, Progress


@pytest.fixture
def progress(monkeypatch, clock) -> Progress:
    """Where there is no terminal."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    return Progress()


def test_the_time_to_go_is_that_of_the_steps_since_this_process_began(progress, make_trainer, clock):
    progress.on_train_start(make_trainer(global_step=50), None)
    assert progress.get_metrics(make_trainer(global_step=50), None) == {"left": "?"}
    clock(20)
    assert progress.get_metrics(make_trainer(global_step=60), None) == {"left": "0:01:20"}  # 2 s x 40
    clock(40)
    assert progress.get_metrics(make_trainer(global_step=100), None) == {"left": "0:00:00"}


def test_figures_have_short_names_and_three_digits(progress, make_trainer):
    metrics = {"train/loss": torch.tensor(1.23456), "train/skill": torch.tensor(0.5), "val/loss": 3.0}
    metrics |= {"train/images_per_s": torch.tensor(512.25), "train/data_wait": torch.tensor(0.0123)}
    figures = progress.get_metrics(make_trainer(callback_metrics=metrics, global_step=0), None)
    assert figures == {"loss": "1.23", "skill": "0.5", "img/s": "512", "wait": "0.0123", "left": "?"}


def train_for(seconds: float, progress: Progress, clock, caplog, trainer) -> list[str]:
    """The lines of a batch that ends so many seconds later."""
    caplog.clear()
    clock(seconds)
    progress.on_train_batch_end(trainer, Mock(), None, None, 0)
    return caplog.messages


def test_without_a_terminal_there_is_a_line_when_half_a_minute_is_over(progress, make_trainer, clock, caplog):
    caplog.set_level("INFO")
    progress.on_train_start(make_trainer(global_step=0), None)

    def lines(seconds: float, **changes) -> list[str]:
        trainer = make_trainer(callback_metrics={"train/loss": torch.tensor(0.75)}, **changes)
        return train_for(seconds, progress, clock, caplog, trainer)

    assert lines(LINES_EVERY - 1, global_step=1) == []
    assert lines(2, global_step=10) == ["step 10/100  loss 0.75  left 0:04:39"]
    assert lines(LINES_EVERY - 1, global_step=11) == []
    assert lines(2, global_step=20, is_global_zero=False) == []
    assert len(lines(0, global_step=20)) == 1


def test_a_terminal_gets_a_bar_instead_of_lines(monkeypatch, make_trainer, clock, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    bar = Progress()
    bar.on_train_start(make_trainer(global_step=0), None)
    assert bar.is_enabled
    assert train_for(2 * LINES_EVERY, bar, clock, caplog, make_trainer()) == []
    bar.train_progress_bar.close()
