"""Folders that a user names: check that they exist, and suggest close names."""

import difflib
import glob
import os
from collections.abc import Iterable
from pathlib import Path

from cim_lightning.errors import ConfigError


def existing_folder(root: str, parameter: str = "root") -> str:
    """Return the absolute path of a folder, with `~` expanded.

    Raises:
        ConfigError: there is no such folder; the error names `parameter`.
    """
    path = Path(os.path.abspath(os.path.expanduser(root)))
    if path.is_dir():
        return str(path)
    if path.exists():
        raise ConfigError(parameter, root, "is a file, must be a folder", suggest=path.parent)
    exists = next(folder for folder in path.parents if folder.is_dir())
    hint = closest_name(path.name, [folder.name for folder in path.parent.glob("*/")], f"{path.parent}/")
    raise ConfigError(parameter, root, "does not exist", hint=hint or f"the path exists up to {exists}")


def check_path(path: str, parameter: str = "root") -> None:
    """Check that there is a file or folder at a path. A glob is not checked.

    Raises:
        ConfigError: there is none.
    """
    if not glob.has_magic(path) and not os.path.exists(os.path.expanduser(path)):
        existing_folder(path, parameter)  # raises the error


def closest_name(name: str, names: Iterable[str], prefix: str = "") -> str:
    """Return a hint with the closest of possibly many names; empty if none is close."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean {prefix}{close[0]}?" if close else ""
