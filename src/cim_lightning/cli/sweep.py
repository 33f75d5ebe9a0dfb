"""Sweeps: checks before the first job, jobs that fail, and the table at the end."""

import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cim_lightning import stop_signals
from cim_lightning.atomic import atomic_write, remove_temporaries
from cim_lightning.cli import lock, run_info
from cim_lightning.cli.preflight import check_launcher, check_processes
from cim_lightning.cli.shared_datasets import SharedDatasets
from cim_lightning.config import resume, run_names
from cim_lightning.errors import EXIT_USAGE, ConfigError
from cim_lightning.report import failures, sweep_table

log = logging.getLogger("cim_lightning")

Task = Callable[[DictConfig], Any]
RERUN = "rerun the same command to finish the missing jobs"
LAUNCHERS = ("joblib", "submitit", "ray")  # packages whose errors mean that the process of a job died


@dataclass
class Sweep:
    """The sweep of this process, if it runs one, and the images that jobs in this process share."""

    folder: Path | None = None
    datasets: SharedDatasets = field(default_factory=SharedDatasets)
    _lock: FileLock | None = None

    def start(self, config: DictConfig) -> None:
        """Check and lock a sweep before its first job.

        Raises:
            ConfigError: its jobs cannot run here, or another process runs it.
        """
        check_processes(config.hydra, config.get("trainer"))
        check_launcher(config.hydra, config.get("trainer"))
        folder = Path(config.hydra.sweep.dir)
        self._lock, self.folder = lock.acquire(folder), folder
        self.datasets.clear()
        sweep_table.clear(folder)  # a table marks a complete sweep
        # Some sweepers do not write multirun.yaml; resume finds the sweep by it.
        atomic_write(folder / "multirun.yaml", OmegaConf.to_yaml(config))

    def finish(self) -> None:
        """Write and print the table; with unfinished jobs, print only. Exit with 1 if not all finished."""
        folder = self.folder
        if folder is None:
            return
        unfinished, failed = _unfinished(folder), failures.read(folder)
        try:
            table = sweep_table.text(folder) if unfinished else sweep_table.write(folder)
        except Exception:  # Hydra would turn it into a warning
            log.exception("%s: no table", folder)
            sys.exit(1)
        finally:
            self.stop()
        print(f"\n{table}" + ("" if unfinished else f"\n\n{folder / 'table.md'}"))
        if unfinished:
            jobs = ", ".join(job.name for job in unfinished)
            print(f"\n{folder}: unfinished jobs: {jobs}; {RERUN}", file=sys.stderr)
        if unfinished or failed:
            sys.exit(1)

    def stop(self) -> None:
        """Unlock the sweep."""
        if self._lock is not None:
            self._lock.release()
        self.folder = self._lock = None


@functools.cache
def current_sweep() -> Sweep:
    """Return the Sweep of this process; outside a sweep, its folder is None."""
    return Sweep()


class SweepCallback(Callback):
    """Start and finish the sweep. Hydra calls it in the main process, whichever launcher runs the jobs.

    Hydra turns exceptions in a callback into warnings, except SystemExit.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if not lock.is_first_process():
            return
        try:
            current_sweep().start(config)
        except ConfigError as error:
            print(f"{config.hydra.job.name}: {error}", file=sys.stderr)
            sys.exit(EXIT_USAGE)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        current_sweep().finish()


def catch_job_errors(task: Task, explain: Callable[..., str | None]) -> Task:
    """Wrap the task of a job so that a failed job does not stop its sweep; its folder gets the reason.

    Args:
        task: runs the job.
        explain: returns one line about a user's error, and None for any other (see messages.explain).
    """

    @functools.wraps(task)
    def run(cfg: DictConfig) -> Any:
        hydra_cfg: Any = HydraConfig.get()
        folder = Path(hydra_cfg.runtime.output_dir)
        in_sweep = hydra_cfg.mode is RunMode.MULTIRUN
        job_lock = None
        try:
            job_lock = lock.acquire(folder)
            if job_lock.is_locked:
                remove_temporaries(folder)
            if lock.is_first_process():  # the other processes start later, when the job may have failed
                failures.clear(folder)
            if in_sweep:
                check_processes(hydra_cfg, cfg.get("trainer"))  # the trainer can be swept, too
            return task(cfg)
        except Exception as error:
            if not in_sweep:
                raise
            if isinstance(error, lock.FolderInUse):
                log.error("%s", error)  # the other process reports how the job ends
                return None
            reason = explain(error, cfg=cfg) or _first_line(error)
            info = run_info.run_info()
            failures.write(folder, info["overrides"], info["swept"], reason, traceback.format_exc())
            log.error("%s: failed: %s", folder, reason)
            if "LOCAL_RANK" in os.environ:  # the processes of other devices would wait forever
                raise
            return None
        finally:
            if job_lock is not None:
                job_lock.release()
            if in_sweep and stop_signals.received() is None:
                stop_signals.set_outcome(f"finished jobs are saved; {RERUN}")

    return run


@contextmanager
def report_aborted() -> Iterator[None]:
    """If the launcher raises, print the table and mark unfinished jobs that no process runs as failed.

    A launcher raises when the process of a job dies.
    """
    sweep = current_sweep()
    try:
        yield
    except Exception as error:
        if sweep.folder is None:
            raise
        reason = _first_line(error)
        for job in _unfinished(sweep.folder):
            _record_killed(job, f"its process died ({reason})")
        print(f"\n{sweep_table.text(sweep.folder)}\n", file=sys.stderr)
        if type(error).__module__.partition(".")[0] not in LAUNCHERS:
            raise
        print(f"{sweep.folder}: aborted ({reason}); {RERUN}", file=sys.stderr)
        sys.exit(1)
    finally:
        sweep.stop()


def _record_killed(job: Path, reason: str) -> None:
    """Record a job as failed, unless another process (on a cluster) works on it."""
    with suppress(lock.FolderInUse):
        job_lock = lock.acquire(job)
        overrides = yaml.safe_load((job / ".hydra" / "overrides.yaml").read_text()) or []
        swept = run_names.job_overrides(overrides, job.parent)
        failures.write(job, overrides, swept, reason, traceback.format_exc())
        job_lock.release()


def _unfinished(folder: Path) -> list[Path]:
    """Return the jobs that started but did not finish or fail."""
    jobs = [path.parent for path in sorted(folder.glob("*/.hydra"))]
    return [job for job in jobs if not resume.is_trained(job) and not (job / "failure.json").exists()]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
