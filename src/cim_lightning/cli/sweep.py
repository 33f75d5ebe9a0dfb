"""A sweep as a whole: what is refused before it begins, a job that fails, and the table at its end."""

import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cim_lightning.atomic import atomic_write
from cim_lightning.cli import dataset_cache, lock, run_info
from cim_lightning.cli.preflight import refuse_launcher, refuse_several
from cim_lightning.config import resume, run_names
from cim_lightning.errors import EXIT_USAGE, ConfigError
from cim_lightning.report import comparison, failures

log = logging.getLogger("cim_lightning")

Task = Callable[[DictConfig], Any]
LAUNCHERS = ("joblib", "submitit", "ray")  # whose errors say that a job's process is no more

_under_way: list[Path] = []  # the sweep of this process


class Table(Callback):
    """Hydra calls it before the first job and once all are done, whichever launcher runs them.

    Hydra turns what goes wrong in here into warnings, but for the exits.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if not lock.first_process():
            return
        folder = Path(config.hydra.sweep.dir)
        try:
            refuse_several(config.hydra, config.get("trainer"))
            refuse_launcher(config.hydra, config.get("trainer"))
            lock.hold(folder)
        except ConfigError as error:
            print(f"{config.hydra.job.name}: {error}", file=sys.stderr)
            sys.exit(EXIT_USAGE)
        dataset_cache.forget()
        comparison.forget(folder)  # a table says that a sweep came to its end
        # For the same command; not every sweeper writes it.
        atomic_write(folder / "multirun.yaml", OmegaConf.to_yaml(config))
        _under_way[:] = [folder]

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if _under_way:
            _end(_under_way.pop())


def surviving(task: Task, explain: Callable[..., str | None]) -> Task:
    """A task whose failure is kept in its job's folder, where it is a sweep's, and ends no other job.

    explain: a user's mistake in one line; None of any other error.
    """

    @functools.wraps(task)
    def kept(cfg: DictConfig) -> Any:
        hydra_cfg: Any = HydraConfig.get()
        folder = Path(hydra_cfg.runtime.output_dir)
        swept = hydra_cfg.mode is RunMode.MULTIRUN
        try:
            lock.hold(folder)
        except lock.InUse as error:
            if not swept:
                raise
            log.error("%s", error)  # the job is another's, and so is what comes of it
            return None
        if lock.first_process():  # others begin later, when it may have failed already
            failures.forget(folder)
        try:
            if not swept:
                dataset_cache.forget()
                return task(cfg)
            refuse_several(hydra_cfg, cfg.get("trainer"))  # which a sweep may be over, too
            return task(cfg)
        except Exception as error:
            if not swept:
                raise
            reason = explain(error, cfg=cfg) or _first_line(error)
            trace = "".join(traceback.format_exception(error))
            asked = run_info.asked()
            failures.write(folder, asked["overrides"], asked["swept"], reason, trace)
            log.error("%s: failed: %s", folder, reason)
            if "LOCAL_RANK" in os.environ:  # processes of other devices wait for this one, in vain
                raise
            return None
        finally:
            lock.let_go(folder)

    return kept


@contextmanager
def survived() -> Iterator[None]:
    """Tells how far a sweep came whose launcher gave up, as it does where a job's process was killed."""
    try:
        yield
    except Exception as error:
        if not _under_way:
            raise
        folder, reason = _under_way[0], _first_line(error)
        for job in _unfinished(folder):
            _give_up(job, f"ended with its process ({reason})", traceback.format_exc())
        print(f"\n{comparison.told(folder)}\n", file=sys.stderr)
        if type(error).__module__.partition(".")[0] not in LAUNCHERS:
            raise
        print(f"{folder}: cut short ({reason}); the same command does what is missing", file=sys.stderr)
        sys.exit(1)
    finally:
        while _under_way:
            lock.let_go(_under_way.pop())


def _give_up(job: Path, reason: str, trace: str) -> None:
    """Keeps the failure of a job that nobody is at any more; on a cluster others may go on."""
    with suppress(lock.InUse):
        lock.hold(job)
        asked = yaml.safe_load((job / ".hydra" / "overrides.yaml").read_text()) or []
        failures.write(job, asked, run_names.own(asked, job.parent), reason, trace)
        lock.let_go(job)


def _end(folder: Path) -> None:
    """Writes and prints the table, or, where jobs are missing, prints what there is; exits with 1 then."""
    missing, failed = _unfinished(folder), failures.read(folder)
    try:
        table = comparison.told(folder) if missing else comparison.write(folder)
    except Exception:  # which Hydra would make a warning of
        log.exception("%s: no table", folder)
        sys.exit(1)
    finally:
        lock.let_go(folder)
    print(f"\n{table}" + ("" if missing else f"\n\n{folder / 'table.md'}"))
    if missing:
        told = ", ".join(job.name for job in missing)
        print(f"\n{folder}: unfinished: {told}; the same command does them", file=sys.stderr)
    if missing or failed:
        sys.exit(1)


def _unfinished(folder: Path) -> list[Path]:
    """Jobs that were begun and neither came to their end nor failed."""
    jobs = [path.parent for path in sorted(folder.glob("*/.hydra"))]
    return [job for job in jobs if not resume.complete(job) and not (job / "failure.json").exists()]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
