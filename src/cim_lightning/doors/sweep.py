"""A sweep as a whole: what is refused before it begins, a job that fails, and the table at its end."""

import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cim_lightning.doors import alone, images
from cim_lightning.doors.processes import refuse_several
from cim_lightning.errors import MISTAKE, SettingError
from cim_lightning.report import comparison, failures

log = logging.getLogger("cim_lightning")

Task = Callable[[DictConfig], Any]


class Table(Callback):
    """Hydra calls it before the first job and once all are done, whichever launcher runs them.

    Hydra turns what goes wrong in here into warnings, but for the exits.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if not alone.first_process():
            return
        folder = Path(config.hydra.sweep.dir)
        try:
            refuse_several(config.hydra, config.get("trainer"))
            alone.hold(folder)
        except SettingError as error:
            print(f"{config.hydra.job.name}: {error}", file=sys.stderr)
            sys.exit(MISTAKE)
        images.forget()
        comparison.forget(folder)  # a table says that a sweep came to its end
        OmegaConf.save(config, folder / "multirun.yaml")  # for the same command; not every sweeper does

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if not alone.first_process():
            return
        folder = Path(config.hydra.sweep.dir)
        table = comparison.write(folder)
        if table is not None:
            print(f"\n{table}\n\n{folder / 'table.md'}")
        alone.let_go(folder)
        if failures.read(folder):
            sys.exit(1)


def surviving(task: Task, explain: Callable[[BaseException], str | None]) -> Task:
    """A task whose failure is kept in its job's folder, where it is a sweep's, and ends no other job.

    explain: a user's mistake in one line; None of any other error.
    """

    @functools.wraps(task)
    def kept(cfg: DictConfig) -> Any:
        hydra_cfg: Any = HydraConfig.get()
        folder = Path(hydra_cfg.runtime.output_dir)
        if hydra_cfg.mode is not RunMode.MULTIRUN:
            alone.hold(folder)
            images.forget()
            try:
                return task(cfg)
            finally:
                alone.let_go(folder)
        try:
            refuse_several(hydra_cfg, cfg.get("trainer"))  # which a sweep may be over, too
            result = task(cfg)
        except Exception as error:
            reason = explain(error) or _first_line(error)
            failures.write(folder, reason, "".join(traceback.format_exception(error)))
            log.error("%s: failed: %s", folder, reason)
            if "LOCAL_RANK" in os.environ:  # processes of other devices wait for this one, in vain
                raise
            return None
        failures.forget(folder)
        return result

    return kept


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
