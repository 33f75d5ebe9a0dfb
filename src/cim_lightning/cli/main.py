"""Entry points of the commands: run them under Hydra, and print a user's error in one line."""

import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from cim_lightning import stop_signals
from cim_lightning.cli import sweep
from cim_lightning.cli.doctor import run as run_doctor
from cim_lightning.cli.entry import handle_signals
from cim_lightning.cli.evaluate import run as run_evaluate
from cim_lightning.cli.export import run as run_export
from cim_lightning.cli.help import print_help
from cim_lightning.cli.output_folder import removed_if_refused
from cim_lightning.cli.prepare import run as run_prepare
from cim_lightning.cli.prepare import task_override
from cim_lightning.cli.pretrain import run as run_pretrain
from cim_lightning.cli.report import run as run_report
from cim_lightning.cli.wandb_workspace import run as run_workspace
from cim_lightning.config import messages, resume
from cim_lightning.config.arguments import expand_home, quote, quote_values
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.config.flags import flags_first
from cim_lightning.errors import EXIT_USAGE, EvaluationError, LoadingError, RunError


def pretrain() -> None:
    """Run `cim-pretrain`."""
    arguments = resume.add_output_dir(_overrides("pretrain"))
    explain = functools.partial(messages.explain, command="pretrain", arguments=arguments)
    with sweep.report_aborted():
        _run_hydra("pretrain", sweep.catch_job_errors(run_pretrain, explain), arguments)


def evaluate() -> None:
    """Run `cim-evaluate`."""
    _run_hydra("evaluate", run_evaluate, _overrides("evaluate"))


def export() -> None:
    """Run `cim-export`."""
    _run_hydra("export", run_export, _overrides("export"))


def prepare() -> None:
    """Run `cim-prepare`."""
    with _exit_on_error("prepare"):
        arguments = task_override(_overrides("prepare"))
    _run_hydra("prepare", run_prepare, arguments)


def report() -> None:
    """Run `cim-report`."""
    with _exit_on_error("report"):
        run_report([expand_home(argument) for argument in sys.argv[1:]])


def workspace() -> None:
    """Run `cim-workspace`."""
    with _exit_on_error("workspace"):
        run_workspace([expand_home(argument) for argument in sys.argv[1:]])


def doctor() -> None:
    """Run `cim-doctor`."""
    explain = functools.partial(_exit_on_error, "pretrain", program="cim-doctor")
    with explain():
        arguments = quote_values(sys.argv[1:], "pretrain")
    with explain(arguments=arguments):
        code = run_doctor(arguments, functools.partial(explain, arguments=arguments))
    sys.exit(code)


def _overrides(command: str) -> list[str]:
    """Return the arguments of the command line in Hydra's grammar."""
    if {"-h", "--help"} & {*sys.argv[1:]}:
        print_help(command)
        sys.exit()
    with _exit_on_error(command):
        return quote_values(sys.argv[1:], command)


def _run_hydra(command: str, task: Callable[[DictConfig], Any], arguments: list[str]) -> None:
    """Compose the configuration of a command and run its task, or its sweep of tasks."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises errors instead of printing them

    @functools.wraps(task)
    def job(cfg: DictConfig) -> Any:
        _prepare_process(arguments)
        with handle_signals(command), removed_if_refused(), _exit_on_error(command, cfg, arguments):
            return task(cfg)

    register_resolvers()
    sys.argv[1:] = flags_first(
        arguments
    )  # Hydra reads them, and Lightning repeats them for each other device
    with _exit_on_error(command, None, arguments):
        hydra.main(config_path=str(CONF), config_name=command, version_base="1.3")(job)()


def _prepare_process(arguments: list[str]) -> None:
    """Set up the process of a job, which a launcher may have started."""
    register_resolvers()
    if multiprocessing.get_start_method(allow_none=True) == "loky":  # of joblib; data workers cannot use it
        multiprocessing.set_start_method(None, force=True)
    hydra_cfg = HydraConfig.get()
    if hydra_cfg.mode is RunMode.RUN:
        sweep.current_sweep().datasets.clear()
    else:
        # Lightning repeats the command for each other device. By then `${now}` has changed: fix the folder.
        sys.argv[1:] = [*arguments, f"hydra.sweep.dir={quote(hydra_cfg.sweep.dir)}"]


@contextmanager
def _exit_on_error(
    command: str, cfg: DictConfig | None = None, arguments: list[str] | None = None, program: str = ""
) -> Iterator[None]:
    """Print a user's error in one line and exit; any other error keeps its traceback.

    Args:
        command: whose settings these are.
        cfg: the composed configuration.
        arguments: of the command line.
        program: for the message, if it is not the command's own.
    """
    program = program or f"cim-{command}"
    try:
        yield
    except KeyboardInterrupt:
        print(f"{program}: interrupted; run the same command to resume", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except (EvaluationError, RunError) as error:
        print(f"{program}: {messages.name_settings(str(error), cfg)}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        line = messages.explain(error, command, cfg, arguments or ())
        if line is None:
            raise
        if isinstance(error, LoadingError) and stop_signals.outcome():
            line += f"; {stop_signals.outcome()}"
        print(f"{program}: {line}", file=sys.stderr)
        sys.exit(1 if _is_fault(error) else EXIT_USAGE)


def _is_fault(error: Exception) -> bool:
    """Return whether a valid command failed because of the machine, such as a full disk."""
    wrong_path = isinstance(error, (FileExistsError, NotADirectoryError, HydraException))
    return isinstance(error, (LoadingError, OSError)) and not wrong_path
