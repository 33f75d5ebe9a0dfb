"""The doors: compose, hand on to what lies behind each, and tell a mistake in one line."""

import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from cim_lightning.cli.evaluate import run as run_evaluate
from cim_lightning.cli.export import run as run_export
from cim_lightning.cli.pretrain import run as run_pretrain
from cim_lightning.cli.report import run as run_report
from cim_lightning.cli.sweep import survived, surviving
from cim_lightning.cli.workspace import run as run_workspace
from cim_lightning.config import messages, resume
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.errors import EXIT_USAGE


def pretrain() -> None:
    """The door `cim-pretrain`."""
    sys.argv[1:] = resume.rerouted(sys.argv[1:])
    with survived():
        _open("pretrain", surviving(run_pretrain, functools.partial(messages.explain, door="pretrain")))


def evaluate() -> None:
    """The door `cim-evaluate`."""
    _open("evaluate", run_evaluate)


def export() -> None:
    """The door `cim-export`."""
    _open("export", run_export)


def report() -> None:
    """The door `cim-report`, which has no settings to compose."""
    with _one_line("report"):
        run_report()


def workspace() -> None:
    """The door `cim-workspace`, which has none either."""
    with _one_line("workspace"):
        run_workspace()


def _open(door: str, task: Callable[[DictConfig], Any]) -> None:
    """Runs a door under Hydra; a user's mistake ends it with one line and exit code 2."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # hands errors to us instead of printing them

    @functools.wraps(task)
    def told(cfg: DictConfig) -> Any:
        _in_a_process_like_any_other()
        with _one_line(door, cfg):
            return task(cfg)

    register_resolvers()
    sys.argv[1:] = [_at_home(argument) for argument in sys.argv[1:]]
    with _one_line(door):
        hydra.main(config_path=str(CONF), config_name=door, version_base="1.3")(told)()


def _in_a_process_like_any_other() -> None:
    """A launcher may run a job in a process of its own, which knows less and starts others differently."""
    register_resolvers()
    if multiprocessing.get_start_method(allow_none=True) == "loky":  # joblib's
        multiprocessing.set_start_method(None, force=True)  # no data worker starts by it


@contextmanager
def _one_line(door: str, cfg: DictConfig | None = None) -> Iterator[None]:
    """Tells a user's mistake in one line and exits; everything else keeps its traceback."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"cim-{door}: interrupted; the same command goes on with what is kept", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        line = messages.explain(error, door, cfg)
        if line is None:
            raise
        print(f"cim-{door}: {line}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def _at_home(argument: str) -> str:
    """Expands the ~ of `data.root=~/images`: shells leave it there, and Hydra's grammar refuses it."""
    key, equals, value = argument.partition("=")
    return f"{key}={Path(value).expanduser()}" if equals and value.startswith("~/") else argument
