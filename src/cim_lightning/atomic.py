"""Atomic writes: readers see either the old or the new content, also after a crash."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cim_lightning.errors import ConfigError

TEMPORARY = ".cim-tmp"  # suffix of unfinished files


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which replaces `path` in one step if the block ends without an error.

    The new file is on disk before it gets its name. Its mode follows the umask.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    temporary.unlink(missing_ok=True)
    temporary.touch()
    mode = temporary.stat().st_mode  # of the umask; safetensors writes private files
    try:
        yield temporary
        temporary.chmod(mode)
        sync(temporary)
        temporary.replace(path)
        with suppress(OSError):  # some network file systems cannot sync folders
            sync(path.parent)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary)):  # None: of a full disk
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file or the names in a folder are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Remove the unfinished files of killed processes. No other process may write there."""
    for path in folder.rglob(f".*{TEMPORARY}"):
        path.unlink(missing_ok=True)


def atomic_write(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, content: Any) -> None:
    """Write plain values as indented JSON, atomically."""
    atomic_write(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; {} if the file does not exist.

    Raises:
        ConfigError: the file is damaged.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path}: damaged ({error}); restore or remove the file") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: damaged (it holds no JSON object); restore or remove the file")
    return content


def update_json(path: Path, content: Mapping[str, Any]) -> None:
    """Add entries to the object in a JSON file; they replace entries with the same keys."""
    write_json(path, read_json(path) | dict(content))
