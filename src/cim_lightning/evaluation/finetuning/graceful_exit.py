"""Delay Ctrl-C and SIGTERM until the end of a training step."""

import signal
import sys
import threading
from typing import Any


class GracefulExit:
    """Context manager that records SIGINT and SIGTERM, for `raise_if_requested`.

    A second Ctrl-C raises KeyboardInterrupt immediately. Outside the main thread, where Python allows no
    signal handlers, signals have their usual effect.
    """

    requested: int | None = None  # number of the signal

    def __enter__(self) -> "GracefulExit":
        main = threading.current_thread() is threading.main_thread()
        signals = (signal.SIGINT, signal.SIGTERM) if main else ()
        self._handlers: dict[int, Any] = {number: signal.signal(number, self._record) for number in signals}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def raise_if_requested(self) -> None:
        """Raise KeyboardInterrupt after SIGINT, SystemExit after SIGTERM."""
        if self.requested == signal.SIGINT:
            raise KeyboardInterrupt
        if self.requested is not None:
            sys.exit(128 + self.requested)

    def _record(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and self.requested is not None:
            raise KeyboardInterrupt
        self.requested = number
