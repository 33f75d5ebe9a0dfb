"""Disk space that the checkpoints of a run need."""

import logging
import shutil
from pathlib import Path
from typing import Any

from cim_lightning.config.machine import format_bytes
from cim_lightning.errors import ConfigError

FILES = 4  # last, previous, best, and one that is being written
MOMENTS = 2  # values of AdamW per trained weight

log = logging.getLogger("cim_lightning")


def check(folder: Path, method: Any) -> None:
    """Check the free space before training: refuse if no checkpoint fits, warn if not all do.

    Args:
        folder: of the run, which may have checkpoints already.
        method: whose state is saved.

    Raises:
        ConfigError: there is no space for one checkpoint.
    """
    size, free = checkpoint_bytes(method), shutil.disk_usage(folder).free
    existing = sum(path.stat().st_size for path in folder.glob("checkpoints/*.ckpt"))
    if free < size:
        rule = f"has {format_bytes(free)} free space, and a checkpoint needs {format_bytes(size)}"
        raise ConfigError("output_dir", folder, rule, hint="free some space, or try another output_dir")
    if free + existing < FILES * size:
        sizes = folder, format_bytes(free), format_bytes(FILES * size)
        log.warning("%s: %s free space, and checkpoints need %s; the run stops if the disk is full", *sizes)


def checkpoint_bytes(method: Any) -> int:
    """Return the expected size of a checkpoint: weights, buffers, and the state of AdamW."""
    state = sum(tensor.nbytes for tensor in method.state_dict().values())
    trained = sum(weight.nbytes for weight in method.parameters() if weight.requires_grad)
    return state + MOMENTS * trained
