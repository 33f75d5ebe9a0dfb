"""Paths of the archives that a setting names: folders, files, globs, brace ranges, lists."""

import glob
import itertools
import os
import re
from collections.abc import Sequence

from cim_lightning.data.files import closest_name, existing_folder
from cim_lightning.data.scan import scan
from cim_lightning.errors import ConfigError

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")


def expand_shards(
    given: str | Sequence[str], parameter: str = "root", folders: Sequence[str] = ("",)
) -> list[str]:
    """Return the sorted absolute paths of tar archives.

    Args:
        given: a folder, an archive, a glob, a range such as `shard-{000..127}.tar`, or a list of them.
        parameter: its name in errors.
        folders: relative names are relative to the first one that has them; "": the working directory.

    Raises:
        ConfigError: there is no such archive, or it is compressed.
    """
    names = [given] if isinstance(given, str) else list(given)
    if not names:
        raise ConfigError(parameter, "[]", "has no archive", hint=f"try {parameter}=/my/shards")
    paths = sorted({path for name in names for path in _expand(str(name), parameter, folders)})
    for path in paths:
        if path.lower().endswith(COMPRESSED):
            rule = f"{os.path.basename(path)} is compressed, so its images cannot be read in random order"
            raise ConfigError(parameter, given, rule, hint="decompress it first (gzip -d, xz -d, zstd -d)")
    return paths


def names_archives(given: str | Sequence[str], folders: Sequence[str]) -> bool:
    """Return whether a value names archives, not a folder in archives."""
    if not isinstance(given, str) or given.endswith((".tar", *COMPRESSED)) or "*" in given or "{" in given:
        return True
    return any(os.path.exists(path) for path in _candidates(given, folders))


def _candidates(name: str, folders: Sequence[str]) -> list[str]:
    return [os.path.abspath(os.path.join(folder, os.path.expanduser(name))) for folder in folders]


def _expand(name: str, parameter: str, folders: Sequence[str]) -> list[str]:
    if re.match(r"(\w+://|pipe:)", name):
        rule = "is not on this machine; archives are read in random order from a local or mounted disk"
        raise ConfigError(parameter, name, rule, hint="download the archives first")
    paths = _candidates(name, folders)
    path = next((path for path in paths if os.path.exists(path) or any(map(_files, _braces(path)))), paths[0])
    if os.path.isfile(path):
        return [path]
    if os.path.isdir(path):
        return _in_folder(name, path, parameter)
    if BRACES.search(path) or glob.has_magic(path):
        return _matches(name, path, parameter)
    parent = existing_folder(os.path.dirname(path), parameter)
    hint = closest_name(os.path.basename(path), os.listdir(parent), f"{parent}/")
    raise ConfigError(parameter, name, "does not exist", hint=hint or f"the path exists up to {parent}")


def _in_folder(name: str, path: str, parameter: str) -> list[str]:
    suffixes = {f".{suffix.rpartition('.')[2]}" for suffix in (".tar", *COMPRESSED)}
    files, others = scan(path, suffixes)
    paths = [files.path(i) for i in range(len(files))]
    found = [file for file in paths if file.lower().endswith((".tar", *COMPRESSED))]
    if not found:
        hint = "for image files, try data=folder" if others else "the folder has no files"
        raise ConfigError(parameter, name, "has no .tar file", hint=hint)
    return found


def _matches(name: str, path: str, parameter: str) -> list[str]:
    """Return the archives of a glob or a range; each name of a range must exist."""
    matches = {pattern: _files(pattern) for pattern in _braces(path)}
    missing = [pattern for pattern, files in matches.items() if not files]
    if missing and len(matches) > 1:
        rule = f"{len(missing):,} of {len(matches):,} archives do not exist, such as {missing[0]}"
        raise ConfigError(parameter, name, rule, hint="correct the range")
    if missing:
        raise ConfigError(parameter, name, "no file has such a name", hint="quote * and {} in the shell")
    return [file for files in matches.values() for file in files]


def _files(pattern: str) -> list[str]:
    paths = [pattern] if os.path.exists(pattern) else glob.glob(pattern, recursive=True)
    return [path for path in paths if os.path.isfile(path)]


def _braces(pattern: str) -> list[str]:
    """Return the names of a pattern with `{000..127}` and `{a,b}`."""
    parts = BRACES.split(pattern)  # text, content, text, content, ...
    choices: list[list[str]] = []
    for i, part in enumerate(parts):
        if i % 2 == 0:
            choices.append([part])
        elif match := RANGE.fullmatch(part):
            first, last = match.groups()
            choices.append([f"{n:0{len(first)}}" for n in range(int(first), int(last) + 1)])
        else:
            choices.append(part.split(","))
    return ["".join(choice) for choice in itertools.product(*choices)]
