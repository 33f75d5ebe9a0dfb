"""Two processes with the same output folder."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cim_lightning.cli import lock
from cim_lightning.errors import ConfigError

LOCKING_SCRIPT = """
import os
import sys
import time
from pathlib import Path
from cim_lightning.cli.lock import acquire

lock = acquire(Path(sys.argv[1]))
if os.fork() == 0:  # like a data worker, which outlives a killed training for a while
    print("locked", flush=True)  # by the child, which has then closed its copy of the lock
    time.sleep(60)
    os._exit(0)
sys.stdin.read()
"""
SRC = Path(__file__).parents[2] / "src"


@pytest.fixture
def locking_process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the lock of the folder until it is killed."""
    command, pipe = [sys.executable, "-c", LOCKING_SCRIPT, str(tmp_path)], subprocess.PIPE
    path = os.environ | {"PYTHONPATH": str(SRC)}
    with subprocess.Popen(command, env=path, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_folder_is_locked_until_the_process_with_the_lock_is_killed(locking_process, tmp_path):
    with pytest.raises(ConfigError, match=f"^output_dir={tmp_path}: another process .*; try another"):
        lock.acquire(tmp_path)
    lock.acquire(tmp_path / "other").release()
    locking_process.kill()
    locking_process.wait()
    for _ in range(2):  # the second time shows that release works
        acquired = lock.acquire(tmp_path)
        assert acquired.is_locked
        acquired.release()


@pytest.mark.usefixtures("locking_process")
@pytest.mark.parametrize("rank", lock.RANKS)
def test_processes_of_other_devices_need_no_lock(rank, tmp_path, monkeypatch):
    monkeypatch.setenv(rank, "0")
    with pytest.raises(ConfigError):
        lock.acquire(tmp_path)
    monkeypatch.setenv(rank, "1")
    assert not lock.acquire(tmp_path).is_locked


@pytest.mark.fault(
    "command",
    "two commands with the same output folder",
    "the second one ends with one line, and changes nothing",
)
@pytest.mark.usefixtures("locking_process")
@pytest.mark.parametrize("sweep", [["-m", "seed=0,1"], []])
def test_a_command_reports_the_lock_in_one_line_and_does_not_change_the_folder(
    sweep, run_pretrain, tiny, tmp_path, capsys
):
    (tmp_path / "table.md").write_text("of the other process")
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*sweep, *tiny, f"output_dir={tmp_path}")
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cim-pretrain: output_dir={tmp_path}: another process works there")
    assert (tmp_path / "table.md").read_text() == "of the other process"
    assert not (tmp_path / "metrics.csv").exists()
