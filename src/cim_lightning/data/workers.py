"""The processes of a data loader: their signals, their end, and why they died."""

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from torch import Tensor

from cim_lightning import stop_signals
from cim_lightning.errors import LoadingError

PARENT_CHECK = 5.0  # seconds between two checks whether the parent is alive
EXIT_TIME = 2.0  # seconds within which a process that lost its connections ends
SHM = Path("/dev/shm")


class IgnoreSignals:
    """A `worker_init_fn` for DataLoader: the workers ignore the signals that stop a command.

    Ctrl-C, `timeout` and schedulers signal the workers too, but a graceful exit needs them until the end of
    the step. At exit, Python sends SIGTERM to its workers and waits for them; a semaphore replaces SIGTERM.
    A worker also exits if its parent was killed, even in a read that does not end.
    """

    def __init__(self) -> None:
        self._process_exits = multiprocessing.Semaphore(0)
        Finalize(self, self._process_exits.release, exitpriority=0)

    def __call__(self, worker_id: int) -> None:
        for number in stop_signals.SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        threading.Thread(target=self._wait_and_exit, args=(os.getppid(),), daemon=True).start()

    def _wait_and_exit(self, parent: int) -> None:
        while not self._process_exits.acquire(timeout=PARENT_CHECK):
            if os.getppid() != parent:
                os._exit(0)
        self._process_exits.release()  # for the next worker
        os._exit(0)  # torch reports any other code as a failed worker


def collate_shared(collate: Callable[[Any], Any], samples: Any) -> Any:
    """Collate samples in a worker, and move the tensors to shared memory.

    The queue of the worker would do so in a thread whose errors nobody sees; the parent would wait forever.
    """
    return _shared(collate(samples))


def _shared(batch: Any) -> Any:
    if isinstance(batch, Tensor):
        batch.share_memory_()
    elif isinstance(batch, tuple | list):
        for part in batch:
            _shared(part)
    return batch


def explain_failure(
    error: BaseException, workers: Sequence[BaseProcess], num_workers: int
) -> LoadingError | None:
    """Return the error of one line about workers that failed; None for any other error.

    Args:
        error: that the loader raised.
        workers: the processes that it started.
        num_workers: the number of processes that it needs.
    """
    if workers and isinstance(error, ConnectionError | EOFError | FileNotFoundError):
        # A process that is killed closes its sockets and its sentinel first. Its exit code follows.
        ended = wait([worker.sentinel for worker in workers], EXIT_TIME)
        for worker in workers:
            if worker.sentinel in ended:
                worker.join(EXIT_TIME)
    codes = [worker.exitcode for worker in workers if worker.exitcode]
    text, fewer = str(error), num_workers // 2
    if "shared memory" in text or -signal.SIGBUS in codes:
        size = f" ({shutil.disk_usage(SHM).total / 1e6:,.0f} MB)" if SHM.exists() else ""
        rule = f"shared memory{size} is full, and the workers pass their batches through it"
        hint = "try num_workers=0, or enlarge it, as with docker run --shm-size=8g"
    elif "Too many open files" in text or "ancdata" in text:
        rule = "too many open files: the workers pass their batches through files"
        hint = f"try num_workers={fewer}, or ulimit -n 65536"
    elif -signal.SIGKILL in codes:
        rule = "a worker was killed, as systems do if memory is short"
        hint = f"try num_workers={fewer}"
    elif codes:
        how = signal.Signals(-codes[0]).name if codes[0] < 0 else f"exit code {codes[0]}"
        rule, hint = f"a worker ended with {how}", "try num_workers=0, which shows the error"
    elif isinstance(error, OSError) and len(workers) < num_workers:
        rule, hint = f"the workers cannot be started ({error.strerror})", f"try num_workers={fewer}"
    else:
        return None
    return LoadingError("num_workers", num_workers, rule, hint=hint)
