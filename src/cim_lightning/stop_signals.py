"""Signals that stop a command: Ctrl-C, and the signals of schedulers and terminals.

Outside of training, a signal raises `Stopped` at once. Training defers it until its state can be saved.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")  # SIGUSR1 and 2: Slurm's warnings
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))  # Windows lacks some
REPEAT = 1.0  # seconds within which further signals count as the first: `timeout` and launchers send it twice
GRACE = 10.0  # seconds that a deferred signal leaves to a wait for data


class Stopped(SystemExit):
    """A signal ends this process, with the exit code that shells use: 128 plus its number."""

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.number = number


@dataclass
class _State:
    previous: dict[int, Any] = field(default_factory=dict)  # replaced handlers; empty if not installed
    process: int = 0
    speaks: bool = True
    first: int | None = None  # first signal
    at: float = 0.0  # when it arrived
    end: str | None = None  # what a signal waits for; None: it raises at once
    waits_end: bool = False  # whether it still ends a wait for data
    waiting: int = 0  # depth of interruptible()
    timer: threading.Timer | None = None
    outcome: str = ""


_state = _State()


def install(speaks: bool = True) -> bool:
    """Handle the signals in this process, if this is the main thread and nothing handles or ignores them yet.

    A signal that was ignored (by nohup) stays ignored. Handlers of launchers such as submitit stay.

    Args:
        speaks: whether this process reports the signal; false for all but the first process of a run.

    Returns:
        Whether this call installed the handlers. It changes nothing if they are installed.
    """
    global _state
    is_main_thread = threading.current_thread() is threading.main_thread()
    if not is_main_thread or (_state.previous and _state.process == os.getpid()):
        return False
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    free = (signal.SIG_DFL, signal.default_int_handler, _on_signal)  # _on_signal: of the parent of this fork
    _state = _State({n: handler for n, handler in handlers.items() if handler in free}, os.getpid(), speaks)
    for number in _state.previous:
        signal.signal(number, _on_signal)
    return True


def uninstall() -> None:
    """Restore the previous handlers, and forget the received signal."""
    global _state
    for number, handler in _state.previous.items():
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, handler)
    _state = _State()


def received() -> int | None:
    """Return the first signal that this process received."""
    return _state.first


def raise_if_received() -> None:
    """Raise Stopped if a signal was received. Libraries swallow some exceptions that a handler raises."""
    if _state.first is not None:
        raise Stopped(_state.first)


def defer(end: str | None, waits_end: bool = False) -> None:
    """Set what a signal waits for. A second signal raises Stopped nevertheless.

    Args:
        end: for the message, such as "the end of this step"; None: a signal raises Stopped at once.
        waits_end: whether a signal raises Stopped inside `interruptible()`, since nothing is half-done.
    """
    _state.end, _state.waits_end = end, waits_end


@contextmanager
def deferred(end: str) -> Iterator[None]:
    """Defer signals inside the block, as for a file that is being written."""
    before = _state.end, _state.waits_end
    defer(end)
    try:
        yield
    finally:
        defer(*before)


@contextmanager
def interruptible() -> Iterator[None]:
    """Mark a wait for data: inside, a signal raises Stopped at once, unless a step is half-done.

    In the middle of a step, the wait may last `GRACE` seconds more.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.waiting += 1
    try:
        if _state.first is not None:
            _end_wait(_state.first)
        yield
    finally:
        _state.waiting -= 1
        if _state.timer is not None and not _state.waiting:
            _state.timer.cancel()
            _state.timer = None


def set_outcome(text: str) -> None:
    """Set what is saved and how to resume, for the message about a signal."""
    _state.outcome = text


def outcome() -> str:
    """Return what is saved and how to resume."""
    return _state.outcome


def report(command: str, stopped: Stopped) -> None:
    """Print why a command ends, once, if this process speaks for its run."""
    if _state.speaks:
        print(f"{command}: stopped by {_name(stopped.number)}; {_state.outcome}", file=sys.stderr)
        _state.speaks = False


def _on_signal(number: int, frame: Any) -> None:
    if os.getpid() != _state.process:  # a forked process that has not set its own handlers yet
        return
    now, is_first = time.monotonic(), _state.first is None
    if is_first:
        _state.first, _state.at = number, now
    elif now - _state.at <= REPEAT:
        return
    if _state.end is None or not is_first:
        raise Stopped(number if _state.first is None else _state.first)
    if _state.waiting:
        _end_wait(number)
    if _state.speaks:  # print is not reentrant
        line = f"\n{_name(number)}: stops at {_state.end}; a second signal stops now\n"
        os.write(2, line.encode())


def _end_wait(number: int) -> None:
    """End a wait for data now, or after a time if a step is half-done."""
    if _state.end is None or _state.waits_end:
        raise Stopped(number)
    if _state.timer is None:
        main = threading.main_thread().ident
        _state.timer = threading.Timer(GRACE, signal.pthread_kill, (main, number))  # as a second signal
        _state.timer.daemon = True
        _state.timer.start()


def _name(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
