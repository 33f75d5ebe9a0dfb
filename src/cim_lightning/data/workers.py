"""Signals in data-loading workers."""

import os
import signal
import threading


def ignore_signals(worker_id: int) -> None:
    """Ignore SIGINT, and any SIGTERM that the training process did not send itself.

    Ctrl-C, `timeout` and schedulers signal the workers too, and a graceful exit needs them to finish the
    current step. When Python exits on an error, it sends SIGTERM to its workers and waits for them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # elsewhere torch's own handler lets any SIGTERM end the worker
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)  # torch reports any other code as a failed worker
