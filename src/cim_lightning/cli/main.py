"""Entry points of the commands: run them under Hydra, and print a user's error in one line."""

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
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from cim_lightning.cli import sweep
from cim_lightning.cli.evaluate import run as run_evaluate
from cim_lightning.cli.export import run as run_export
from cim_lightning.cli.pretrain import run as run_pretrain
from cim_lightning.cli.report import run as run_report
from cim_lightning.cli.wandb_workspace import run as run_workspace
from cim_lightning.config import messages, resume
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.errors import EXIT_USAGE


def pretrain() -> None:
    """Run `cim-pretrain`."""
    sys.argv[1:] = resume.add_output_dir(sys.argv[1:])
    explain = functools.partial(messages.explain, command="pretrain", arguments=sys.argv[1:])
    with sweep.report_aborted():
        _run_hydra("pretrain", sweep.catch_job_errors(run_pretrain, explain))


def evaluate() -> None:
    """Run `cim-evaluate`."""
    _run_hydra("evaluate", run_evaluate)


def export() -> None:
    """Run `cim-export`."""
    _run_hydra("export", run_export)


def report() -> None:
    """Run `cim-report`."""
    with _exit_on_error("report"):
        run_report(sys.argv[1:])


def workspace() -> None:
    """Run `cim-workspace`."""
    with _exit_on_error("workspace"):
        run_workspace(sys.argv[1:])


def _run_hydra(command: str, task: Callable[[DictConfig], Any]) -> None:
    """Compose the configuration of a command and run its task, or its sweep of tasks."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises errors instead of printing them

    @functools.wraps(task)
    def job(cfg: DictConfig) -> Any:
        _prepare_process()
        with _exit_on_error(command, cfg):
            return task(cfg)

    register_resolvers()
    sys.argv[1:] = [_expand_home(argument) for argument in sys.argv[1:]]
    with _exit_on_error(command):
        hydra.main(config_path=str(CONF), config_name=command, version_base="1.3")(job)()


def _prepare_process() -> None:
    """Set up the process of a job, which a launcher may have started."""
    register_resolvers()
    if multiprocessing.get_start_method(allow_none=True) == "loky":  # of joblib; data workers cannot use it
        multiprocessing.set_start_method(None, force=True)
    hydra_cfg = HydraConfig.get()
    if hydra_cfg.mode is RunMode.RUN:
        sweep.current_sweep().datasets.clear()
    elif not any(argument.startswith("hydra.sweep.dir=") for argument in sys.argv):
        # Lightning repeats the command for every other device, when the time in the folder's name is over.
        sys.argv.append(f'hydra.sweep.dir="{hydra_cfg.sweep.dir}"')


@contextmanager
def _exit_on_error(command: str, cfg: DictConfig | None = None) -> Iterator[None]:
    """Print a user's error in one line and exit; any other error keeps its traceback."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"cim-{command}: interrupted; run the same command to resume", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        line = messages.explain(error, command, cfg, sys.argv[1:])
        if line is None:
            raise
        print(f"cim-{command}: {line}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def _expand_home(argument: str) -> str:
    """Expand the ~ of `data.root=~/images`, which shells leave and Hydra's grammar rejects."""
    key, equals, value = argument.partition("=")
    return f"{key}={Path(value).expanduser()}" if equals and value.startswith("~/") else argument
