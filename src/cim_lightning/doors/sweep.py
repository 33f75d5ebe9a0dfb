"""At the end of a sweep: one table of all its runs."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from cim_lightning.report import comparison


class Table(Callback):
    """Hydra calls it once all jobs are done, whichever launcher ran them."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        table = comparison.write(folder)
        if table is not None:
            print(f"\n{table}\n\n{folder / 'table.md'}")
