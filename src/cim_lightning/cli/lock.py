"""A lock per output folder, so that two processes never write to the same run."""

import os
from pathlib import Path

from filelock import FileLock, Timeout

from cim_lightning.errors import ConfigError

# Launchers number the processes of one run in these variables; the first process has 0 in all of them.
RANKS = (
    "RANK",
    "LOCAL_RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "SLURM_PROCID",
    "JSM_NAMESPACE_RANK",
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
)


class FolderInUse(ConfigError):
    """Another process works in the folder."""


def acquire(folder: Path, parameter: str = "output_dir") -> FileLock:
    """Lock a folder until the lock is released or this process ends, even if it is killed.

    Args:
        folder: to be locked.
        parameter: that names the folder, for the error.

    Returns:
        The lock; not acquired in all but the first process of a run, and on a file system without locks.

    Raises:
        FolderInUse: another process has the lock.
    """
    folder = folder.resolve()
    lock = FileLock(folder / ".lock", blocking=False, fallback_to_soft=False)
    if is_first_process():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            hint = f"try another {parameter}, or wait until it has ended"
            raise FolderInUse(parameter, folder, "another process works there", hint=hint) from error
        except OSError:  # a file system without locks
            pass
    return lock


def is_first_process() -> bool:
    """Return whether this is the first process of its run, over all devices and nodes."""
    return all(os.environ.get(rank, "0") == "0" for rank in RANKS)
