"""One process at a time in a folder: the same command, typed twice, finds the same folder."""

import os
from pathlib import Path

from filelock import FileLock, Timeout

from cim_lightning.errors import ConfigError

# Whatever starts the processes of a run's other devices and nodes, all but the first have a number here.
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

_held: dict[Path, FileLock] = {}


class InUse(ConfigError):
    """Another process is at work in the folder."""


def hold(folder: Path) -> None:
    """Takes a folder for this process, if it is the first of its run; the system lets go when it is killed.

    Raises:
        InUse: another process has it.
    """
    folder = folder.resolve()
    if not first_process() or folder in _held:
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise InUse(
            f"output_dir={folder}: another process is at work there; "
            "try another output_dir, or the same command once that has ended"
        ) from error
    except OSError:  # a file system that knows no locks
        return
    _held[folder] = lock


def let_go(folder: Path) -> None:
    """Leaves it to others."""
    if lock := _held.pop(folder.resolve(), None):
        lock.release()


def first_process() -> bool:
    """Whether this is the one that speaks for those of other devices."""
    return all(os.environ.get(rank, "0") == "0" for rank in RANKS)
