"""A process of a run on two devices is killed."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest
import torch.distributed

from cim_lightning.cli.lost_process import explain_lost_process
from cim_lightning.errors import RunError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")


def train(rank: int, port: int, killed: int, log: Path) -> None:
    """Sum over two processes, one of which is killed after two sums."""
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        with explain_lost_process():
            for step in range(1000):
                torch.distributed.all_reduce(torch.ones(1))
                if (rank, step) == (killed, 2):
                    os.kill(os.getpid(), signal.SIGKILL)
    except RunError as error:
        log.write_text(str(error))
        os._exit(1)


@pytest.mark.fault(
    "process",
    "a process of a run on two CPUs is killed",
    "the other one ends within seconds with one line; the same command resumes",
)
@pytest.mark.parametrize("killed", [0, 1])
def test_the_other_process_ends_with_one_line(killed: int, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes, start = [], time.monotonic()
    for rank in (0, 1):
        processes.append(os.fork())
        if processes[-1] == 0:
            try:
                train(rank, port, killed, tmp_path / "line.txt")
            finally:
                os._exit(3)
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    assert codes == ([-9, 1] if killed == 0 else [1, -9])
    assert (tmp_path / "line.txt").read_text().startswith("another process of this run ended; its own error")
    assert time.monotonic() - start < 20


def test_other_errors_are_unchanged() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), explain_lost_process():
        raise RuntimeError("shapes differ")
