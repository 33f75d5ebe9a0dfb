"""`cim-prepare TASK`: measure images before training, or write them into archives."""

import json
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cim_lightning.atomic import atomic_write
from cim_lightning.checks import check_at_least
from cim_lightning.config import from_checkpoint, validate
from cim_lightning.config.compose import CONF
from cim_lightning.config.image_paths import check_image_paths
from cim_lightning.errors import ConfigError, format_value

if TYPE_CHECKING:  # it imports torch, which takes seconds
    from cim_lightning.data.pixel_stats import PixelStats

log = logging.getLogger("cim_lightning")
DIGITS = 4  # of means and standard deviations


def task_override(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the task, their first word, as an override of the group `task`.

    Raises:
        ConfigError: the task is missing.
    """
    first = arguments[0] if arguments else ""
    if first.startswith("-"):  # such as --help
        return list(arguments)
    if "=" in first or not first:
        tasks = " or ".join(sorted(file.stem for file in (CONF / "task").glob("*.yaml")))
        raise ConfigError(f"the first word must be a task: {tasks}; try cim-prepare stats data.root=...")
    return [f"task={first}", *arguments[1:]]


def run(cfg: DictConfig) -> None:
    """Run the configured task."""
    hydra_cfg = HydraConfig.get()
    validate.check(cfg, "prepare", hydra_cfg.overrides.task)
    check_image_paths(cfg.data)
    task, data = from_checkpoint.build(cfg.task), from_checkpoint.build(cfg.data)
    task(data=data, output_dir=Path(hydra_cfg.runtime.output_dir))


def stats(data: Any, output_dir: Path, limit: int | None = None) -> None:
    """Print the mean and standard deviation of the training images, and write them to stats.json.

    Args:
        data: an ImageData. Each training image is seen once, as the centered square of `view_size` pixels.
        output_dir: of stats.json.
        limit: number of random training images; None: all.
    """
    from tqdm import tqdm

    from cim_lightning.cropping.views import to_unit_range
    from cim_lightning.data.pixel_stats import pixel_stats

    check_at_least("limit", limit, 1)
    log.info("%s", data.splits.describe())
    loader = data.eval_dataloader("train", limit)
    batches = tqdm(loader, "stats", unit="batch", leave=False, disable=None)
    found = pixel_stats(to_unit_range(batch.views) for batch in batches)
    columns = found.columns()
    for channel, std in enumerate(columns["std"], start=1):
        if std == 0:
            log.warning("channel %d has one value only: a backbone cannot normalize it", channel)
    settings: dict[str, Any] = {"channels": data.pixels.channels, "bits": data.pixels.bits}
    about = {"images": found.images, "view_size": data.view.size, **settings}
    atomic_write(output_dir / "stats.json", json.dumps(about | columns, indent=2) + "\n")
    print(_table(found))
    normalization = {f"backbone.{name}": _rounded(columns[name]) for name in ("mean", "std")}
    overrides = {f"data.{name}": value for name, value in settings.items()} | normalization
    print(" ".join(shlex.quote(f"{name}={format_value(value)}") for name, value in overrides.items()))


def _table(stats: "PixelStats") -> str:
    """Return one row per channel; values are in 0..1."""
    names = ("channel", "mean", "std", "lowest", "highest", "at 0", "at 1")
    *values, black, white = stats.columns().values()
    numbers = [[f"{value:.4f}" for value in row] for row in zip(*values, strict=True)]
    shares = [[f"{value:.2%}" for value in row] for row in zip(black, white, strict=True)]
    rows = [names, *([str(i), *numbers[i - 1], *shares[i - 1]] for i in range(1, len(numbers) + 1))]
    return "\n".join("".join(f"{cell:>9}" for cell in row) for row in rows)


def _rounded(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values]
