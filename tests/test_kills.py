"""Runs that are killed and resumed end like uninterrupted ones (experiments/kills has 50 random runs)."""

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")
KILLS = Path(__file__).parents[1] / "experiments" / "kills"


@pytest.fixture(scope="module")
def forked_runs() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(KILLS))
        import compare
        import forked_runs

        forked_runs.differences = compare.differences
    forked_runs.import_all()
    return forked_runs


@pytest.mark.fault(
    "process",
    "SIGKILL at any moment: in a step, in a save, in the first or the last validation",
    "the same command resumes; on a CPU, weights, optimizer, EMA and metrics are bit-identical",
)
def test_a_run_that_is_killed_five_times_ends_like_an_uninterrupted_one(
    forked_runs: ModuleType, run_pretrain: Callable[..., None], tiny: list[str], tmp_path: Path
) -> None:
    kill, run = forked_runs.Kill, [*tiny, "callbacks.last.every_minutes=0", "output_dir=run"]
    moments = [
        kill("validation", 1),  # in the validation before training
        kill("save", 4),
        kill("during save", 22, delay=3),
        kill("time", 0.3),
        kill("validation", 1),
    ]
    run_pretrain(*run)  # in this process, which loads the modules that the forks need
    for moment in moments:
        assert forked_runs.fork_run(run, tmp_path / "killed", moment, "/dev/shm") == -9
    assert forked_runs.fork_run(run, tmp_path / "killed") == 0, (tmp_path / "killed" / "log.txt").read_text()
    assert forked_runs.differences(tmp_path / "run", tmp_path / "killed" / "run") == []
