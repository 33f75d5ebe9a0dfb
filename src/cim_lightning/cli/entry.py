"""Console scripts: handle signals before the imports of a command, which take seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from cim_lightning import stop_signals
from cim_lightning.cli.lock import is_first_process
from cim_lightning.cli.wait_policy import OtherLoad, set_wait_policy
from cim_lightning.stop_signals import Stopped

AGAIN = "run the same command again"
OUTCOMES = {  # of a command that a signal ends, until it says more
    "pretrain": "nothing was trained yet; run the same command to start again",
    "evaluate": "finished results are saved; run the same command for the others",
}


def pretrain() -> None:
    """Run `cim-pretrain`."""
    _run("pretrain")


def evaluate() -> None:
    """Run `cim-evaluate`."""
    _run("evaluate")


def export() -> None:
    """Run `cim-export`."""
    _run("export")


def prepare() -> None:
    """Run `cim-prepare`."""
    _run("prepare")


def report() -> None:
    """Run `cim-report`."""
    _run("report")


def workspace() -> None:
    """Run `cim-workspace`."""
    _run("workspace")


def doctor() -> None:
    """Run `cim-doctor`."""
    _run("doctor")


@contextmanager
def handle_signals(command: str) -> Iterator[None]:
    """Handle signals in the block, and print a line if one ends it, unless this process already does."""
    if not stop_signals.install(speaks=is_first_process()):
        yield
        return
    stop_signals.set_outcome(OUTCOMES.get(command, AGAIN))
    try:
        yield
    except Stopped as stopped:
        stop_signals.report(f"cim-{command}", stopped)
        raise
    finally:
        stop_signals.uninstall()


def _run(command: str) -> None:
    with handle_signals(command):
        load = OtherLoad()
        main = import_module("cim_lightning.cli.main")  # long enough to measure the load
        set_wait_policy(load)
        getattr(main, command)()
