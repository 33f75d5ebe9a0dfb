"""Two processes that are told to work in the same folder."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cim_lightning.cli import lock
from cim_lightning.errors import ConfigError

HOLDS = """
import os
import sys
import time
from pathlib import Path
from cim_lightning.cli.lock import hold

hold(Path(sys.argv[1]))
if os.fork() == 0:  # as data workers are, who outlive a training that is killed for a while
    time.sleep(60)
    os._exit(0)
print("held", flush=True)
sys.stdin.read()
"""
SRC = Path(__file__).parents[2] / "src"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder, until it is killed."""
    command, pipe = [sys.executable, "-c", HOLDS, str(tmp_path)], subprocess.PIPE
    path = os.environ | {"PYTHONPATH": str(SRC)}
    with subprocess.Popen(command, env=path, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_that_another_process_holds_is_refused_until_that_is_killed(other, tmp_path):
    with pytest.raises(ConfigError, match=f"^output_dir={tmp_path}: another process .*; try another"):
        lock.hold(tmp_path)
    lock.hold(tmp_path / "beside")
    lock.let_go(tmp_path / "beside")
    other.kill()
    other.wait()
    lock.hold(tmp_path)
    lock.hold(tmp_path)  # a process is not in its own way
    lock.let_go(tmp_path)
    lock.let_go(tmp_path)


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize("rank", lock.RANKS)
def test_processes_of_other_devices_share_the_folder_of_the_first(rank, tmp_path, monkeypatch):
    monkeypatch.setenv(rank, "0")
    with pytest.raises(ConfigError):
        lock.hold(tmp_path)
    monkeypatch.setenv(rank, "1")
    lock.hold(tmp_path)


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize("several", [["-m", "seed=0,1"], []])
def test_the_door_tells_it_in_one_line_and_leaves_the_folder_as_it_is(
    several, run_pretrain, tiny, tmp_path, capsys
):
    (tmp_path / "table.md").write_text("of the other")
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*several, *tiny, f"output_dir={tmp_path}")
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cim-pretrain: output_dir={tmp_path}: another process is at work there")
    assert (tmp_path / "table.md").read_text() == "of the other"
    assert not (tmp_path / "metrics.csv").exists()
