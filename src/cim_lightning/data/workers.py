"""Signals in data-loading workers."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.util import Finalize


class IgnoreSignals:
    """A `worker_init_fn` for DataLoader: the workers ignore SIGINT and SIGTERM.

    Ctrl-C, `timeout` and schedulers signal the workers too, but a graceful exit needs them until the end of
    the step. At exit, Python sends SIGTERM to its workers and waits for them; a semaphore replaces SIGTERM.
    """

    def __init__(self) -> None:
        self._process_exits = multiprocessing.Semaphore(0)
        Finalize(self, self._process_exits.release, exitpriority=0)

    def __call__(self, worker_id: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Thread(target=self._wait_and_exit, daemon=True).start()

    def _wait_and_exit(self) -> None:
        self._process_exits.acquire()
        self._process_exits.release()  # for the next worker
        os._exit(0)  # torch reports any other code as a failed worker
