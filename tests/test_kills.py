"""Runs that are killed and resumed end like uninterrupted ones (experiments/kills has 50 random runs)."""

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from omegaconf import DictConfig

from cim_lightning.cli import main
from cim_lightning.data.image_files import ImageFiles
from cim_lightning.methods.method import Method

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")
KILLS = Path(__file__).parents[1] / "experiments" / "kills"


@pytest.fixture(scope="module")
def forked_runs() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(KILLS))
        import compare
        import forked_runs

        forked_runs.differences = compare.differences
    return forked_runs


class Hang:
    """A read that does not end, after two steps."""

    def arm(self) -> None:
        """Let it hang, in the process of a run."""
        steps, training_step, read = [], Method.training_step, ImageFiles.__getitem__

        def count(*args: Any) -> Any:
            steps.append(1)
            return training_step(*args)

        def hang(*args: Any) -> Any:
            return os.read(os.pipe()[0], 1) if len(steps) == 2 else read(*args)

        Method.training_step, ImageFiles.__getitem__ = count, hang


@pytest.mark.fault(
    "process",
    "SIGKILL at any moment: in a step, in a save, in the first or the last validation",
    "the same command resumes; on a CPU, weights, optimizer, EMA and metrics are bit-identical",
)
def test_a_run_that_is_killed_five_times_ends_like_an_uninterrupted_one(
    forked_runs: ModuleType,
    run_pretrain: Callable[..., None],
    tiny: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    kill, short = forked_runs.Kill, ["callbacks.knn=null", "trainer.max_epochs=1"]
    common = [*tiny, "callbacks.last.every_minutes=0", *short]
    moments = [
        kill("validation", 1),  # in the validation before training
        Hang(),
        kill("save", 4),
        kill("during save", 16, delay=3),
        kill("time", 0.1),
        kill("validation", 1),  # in the last one
        None,
    ]
    run_pretrain(*common, "output_dir=straight")
    codes, run, log = [], main.run_pretrain, tmp_path / "log.txt"

    def fork_job(cfg: DictConfig) -> None:
        for moment in moments:
            cfg.data.timeout = 1.5 if isinstance(moment, Hang) else 600
            cfg.callbacks.last.every_minutes = 5 if isinstance(moment, Hang) else 0
            codes.append(forked_runs.fork(lambda: run(cfg), log, moment, "/dev/shm"))

    monkeypatch.setattr(main, "run_pretrain", fork_job)  # a fork after the composition takes half the time
    run_pretrain(*common, "output_dir=killed")
    assert codes == [-9, 1, -9, -9, -9, -9, 0], log.read_text()
    text = log.read_text()
    assert "no batch within this time (seconds), while reading '" in text
    assert "last.ckpt at step 2" in capfd.readouterr().out  # saved when the read did not end
    assert forked_runs.differences(tmp_path / "straight", tmp_path / "killed") == []
