"""Remove the output folder of a refused command, which Hydra makes before the command is checked."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cim_lightning.cli.lock import is_first_process
from cim_lightning.errors import EXIT_USAGE

RECORD = {".hydra", ".lock"}  # and the log file: what a command writes before it is checked
_new: list[Path] = []  # folders that this command makes, from the output folder upwards


class OutputFolderCallback(Callback):
    """Note which folders the command is about to make."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        _new.clear()
        HydraConfig.instance().set_config(config)  # for ${hydra:...} in the path; Hydra does it later
        with suppress(OmegaConfBaseException):  # an invalid path, which Hydra reports
            folder = Path(config.hydra.run.dir).absolute()
            _new.extend(path for path in (folder, *folder.parents) if not path.exists())


@contextmanager
def removed_if_refused() -> Iterator[None]:
    """Remove the folders that this command has made if it ends with EXIT_USAGE and has written no result."""
    try:
        yield
    except SystemExit as ended:
        hydra_cfg = HydraConfig.get()
        if ended.code == EXIT_USAGE and hydra_cfg.mode is RunMode.RUN and is_first_process():
            _remove_new(f"{hydra_cfg.job.name}.log")
        raise


def _remove_new(log_file: str) -> None:
    if _new and {path.name for path in _new[0].iterdir()} <= {*RECORD, log_file}:
        shutil.rmtree(_new[0])
        with suppress(OSError):  # another command may use a folder above
            for path in _new[1:]:
                path.rmdir()
