"""Signals in data-loading workers."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.util import Finalize


class IgnoreSignals:
    """A `worker_init_fn` for DataLoader: the workers ignore SIGINT and SIGTERM.

    Ctrl-C, `timeout` and schedulers signal the workers too, and a graceful exit needs them to finish the
    current step. Python ends its workers by SIGTERM and waits for them. Here, a semaphore ends them first.
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
