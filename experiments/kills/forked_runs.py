"""Runs of `cim-pretrain` in processes that are forked from this one, and killed at chosen moments.

A fork shares the imported modules, so a run takes seconds instead of a quarter of a minute.
"""

import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

CALLS = ("open", "os.rename", "os.link", "os.remove", "os.chmod")  # audit events of a checkpoint's write


class Arms(Protocol):
    """Something to prepare in a process."""

    def arm(self) -> None: ...


@dataclass(frozen=True)
class Kill:
    """A moment at which a process sends itself SIGKILL.

    Args:
        at: "time": seconds after the start of training; "save": before a system call on a checkpoint;
            "during save": milliseconds after such a call; "validation": in a validation.
        number: seconds; the number of the call; the number of the validation batch. They start at 0.
        delay: milliseconds after the call.
    """

    at: str
    number: float
    delay: float = 0.0

    def arm(self) -> None:
        """Prepare the kill, in the process that will be killed."""
        arms: dict[str, Callable[[], None]] = {
            "time": self._arm_time,
            "save": self._arm_save,
            "during save": self._arm_save,
            "validation": self._arm_validation,
        }
        arms[self.at]()

    def _arm_time(self) -> None:
        from lightning import Trainer

        run = Trainer._run_stage

        def start(*args: Any) -> Any:
            _kill_later(self.number)
            return run(*args)

        Trainer._run_stage = start

    def _arm_save(self) -> None:
        calls = iter(range(sys.maxsize))

        def hook(event: str, args: tuple[Any, ...]) -> None:
            if event in CALLS and ".ckpt" in str(args[0]) and next(calls) == self.number:
                _kill() if self.at == "save" else _kill_later(self.delay / 1000)

        sys.addaudithook(hook)

    def _arm_validation(self) -> None:
        from cim_lightning.methods.method import Method

        step, calls = Method.validation_step, iter(range(sys.maxsize))

        def validation_step(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == self.number:
                _kill()
            return step(*args, **kwargs)

        Method.validation_step = validation_step


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_later(seconds: float) -> None:
    def wait() -> None:
        time.sleep(seconds)
        _kill()

    threading.Thread(target=wait, daemon=True).start()


def import_all() -> None:
    """Import what a run imports, before the first fork."""
    import cim_lightning.callbacks.knn
    import cim_lightning.callbacks.progress
    import cim_lightning.cli.main
    import cim_lightning.formats.timm_format
    import cim_lightning.methods.cim  # noqa: F401


class Counts:
    """System calls on checkpoints, validation batches, and the seconds between the first and the last batch.

    They are written to a file.
    """

    def __init__(self, path: Path):
        self.path, self.saves, self.validations, self.start = path, 0, 0, 0.0

    def arm(self) -> None:
        """Count in this process."""
        from cim_lightning.methods.method import Method

        step = Method.validation_step

        def validation_step(*args: Any, **kwargs: Any) -> Any:
            self.start = self.start or time.monotonic()
            self.validations += 1
            self.write()
            return step(*args, **kwargs)

        def hook(event: str, args: tuple[Any, ...]) -> None:
            self.saves += event in CALLS and ".ckpt" in str(args[0])

        Method.validation_step = validation_step
        sys.addaudithook(hook)

    def write(self) -> None:
        """Write the counts."""
        self.path.write_text(f"{time.monotonic() - self.start} {self.saves} {self.validations}")


def count_calls(arguments: Sequence[str], folder: Path) -> tuple[float, int, int]:
    """Run `cim-pretrain` without a kill, and return the counts until its last validation."""
    folder.mkdir(parents=True)
    path = (folder / "counts.txt").absolute()
    if code := fork_run(arguments, folder, Counts(path)):
        raise RuntimeError(f"exit code {code}: see {folder / 'log.txt'}")
    seconds, saves, validations = path.read_text().split()
    return float(seconds), int(saves), int(validations)


def fork_run(
    arguments: Sequence[str], folder: Path, fault: Arms | None = None, tmpdir: str | None = None
) -> int:
    """Run `cim-pretrain` in a forked process; see `fork`.

    Args:
        arguments: of the command.
        folder: working directory; gets the output of the command in `log.txt`.
    """

    def run() -> None:
        from cim_lightning.cli.main import pretrain

        os.chdir(folder)
        sys.argv = ["cim-pretrain", *arguments]
        pretrain()

    folder.mkdir(parents=True, exist_ok=True)
    return fork(run, folder / "log.txt", fault, tmpdir)


def fork(run: Callable[[], Any], log: Path, fault: Arms | None = None, tmpdir: str | None = None) -> int:
    """Call a function in a forked process, and wait for its end.

    Args:
        run: the function.
        log: file to which its output is appended.
        fault: prepared in the process, such as a Kill.
        tmpdir: its TMPDIR; None: that of this process.

    Returns:
        The exit code; minus the number of the signal that killed it.
    """
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    code = 1
    try:
        output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        if tmpdir is not None:
            os.environ["TMPDIR"], tempfile.tempdir = tmpdir, None
        if fault is not None:
            fault.arm()
        run()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # without the exit handlers of the parent


def moments(generator: random.Random, seconds: float, saves: int, validations: int, kind: str) -> Kill:
    """Draw a moment.

    Args:
        generator: of the random numbers.
        seconds: that training takes.
        saves: number of system calls on checkpoints in an uninterrupted run.
        validations: number of validation batches in an uninterrupted run.
        kind: see Kill.
    """
    if kind == "time":
        return Kill(kind, generator.uniform(0, seconds))
    if kind == "validation":
        return Kill(kind, generator.randrange(validations))
    return Kill(kind, generator.randrange(saves), generator.uniform(0, 20))
