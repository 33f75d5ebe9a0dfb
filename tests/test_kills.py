"""Runs that are killed and resumed end like uninterrupted ones (experiments/kills has 50 random runs)."""

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cim_lightning.cli import main

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
) -> None:
    kill, common = forked_runs.Kill, [*tiny, "callbacks.last.every_minutes=0", "callbacks.knn=null"]
    moments = [
        kill("validation", 1),  # in the validation before training
        kill("save", 4),
        kill("during save", 22, delay=3),
        kill("time", 0.1),
        kill("validation", 3),  # in the last one
        None,
    ]
    run_pretrain(*common, "output_dir=straight")
    codes, run, log = [], main.run_pretrain, tmp_path / "log.txt"

    def fork_job(cfg: Any) -> None:
        codes.extend(forked_runs.fork(lambda: run(cfg), log, moment, "/dev/shm") for moment in moments)

    monkeypatch.setattr(main, "run_pretrain", fork_job)  # a fork after the composition takes half the time
    run_pretrain(*common, "output_dir=killed")
    assert codes == [-9, -9, -9, -9, -9, 0], log.read_text()
    assert forked_runs.differences(tmp_path / "straight", tmp_path / "killed") == []
