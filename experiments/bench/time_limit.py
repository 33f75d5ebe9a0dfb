"""Parts of a benchmark, each in its own process and with a time limit."""

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

from bench.ledger import Report


def run_part(name: str, work: Callable[[], Report], seconds: float | None) -> Report:
    """Return the report of a part; if it fails or takes too long, a report with a note instead.

    The process is forked, so it has the imports of this one. This process must not use the GPU before.

    Args:
        name: for the note.
        seconds: limit; None: run in this process, where errors are raised.
    """
    if seconds is None:
        return work()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(work, theirs))
    process.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            return Report([], notes=[f"{name}: stopped after {seconds:.0f} s."])
        found = ours.recv()
    except EOFError:  # killed, such as for memory
        found = "the process died"
    finally:
        process.kill()
        process.join()
    return found if isinstance(found, Report) else Report([], notes=[f"{name}: failed: {found}"])


def _send(work: Callable[[], Report], connection: Connection) -> None:
    try:
        connection.send(work())
    except BaseException as error:
        traceback.print_exc()
        connection.send(f"{type(error).__name__}: {error}".splitlines()[0])
