"""Classes and functions that the settings in a file may name: those of conf/, and of trusted packages."""

import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cim_lightning.config.compose import CONF
from cim_lightning.errors import ConfigError, format_value

# Groups of conf/ whose objects are built from the settings in a checkpoint.
GROUPS = ("backbone", "compare", "cropping", "data", "decoder", "experiment", "method", "optim", "target")
OTHER_SOURCE = "use a file from a source that you trust"
TARGET = re.compile(r"^[^#]*\b_target_:\s*([\w.]+)", re.MULTILINE)


@functools.cache
def conf_targets() -> frozenset[str]:
    """Return the targets that conf/ names for methods and data."""
    files = [path for group in GROUPS for path in (CONF / group).rglob("*.yaml")]
    return frozenset(target for path in files for target in TARGET.findall(path.read_text("utf-8")))


def targets(settings: Any) -> Iterator[Any]:
    """Yield the value of every `_target_` in plain settings, at any depth."""
    if isinstance(settings, dict):
        if "_target_" in settings:
            yield settings["_target_"]
        for value in settings.values():
            yield from targets(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from targets(value)


def check_trusted(settings: Any, path: str | Path, trusted_packages: Iterable[str] = ()) -> None:
    """Check settings from a file before anything in them is imported or built.

    Hydra calls whatever a `_target_` names, and OmegaConf resolves whatever `${...}` stands for. A file from
    someone else could thus run code, or read the environment.

    Args:
        settings: plain values.
        path: of the file, for the error.
        trusted_packages: whose classes the settings may name as well.

    Raises:
        ConfigError: a `_target_` is neither in conf/ nor in a trusted package, or a text has `${`.
    """
    for target in targets(settings):
        name = _shown(target)
        trusted = any(f"{name}.".startswith(f"{package}.") for package in trusted_packages)
        if name in conf_targets() or trusted:
            continue
        is_own = name.startswith("cim_lightning.") or not re.fullmatch(r"\w+(\.\w+)+", name)
        packages = format_value([name.partition(".")[0]])
        hint = f"if you trust the file, try trusted_packages={packages}" if not is_own else OTHER_SOURCE
        rule = f"its settings name {name}, which could run any code"
        raise ConfigError("checkpoint", path, rule, hint=hint)
    if text := next(_interpolations(settings), None):
        rule = f"its settings have the interpolation {_shown(text)}; those of a run have none"
        raise ConfigError("checkpoint", path, rule, hint=OTHER_SOURCE)


def _shown(value: Any) -> str:
    """Return a value from a file for a line of a terminal, without control characters."""
    return value if isinstance(value, str) and value.isprintable() else ascii(value)


def _interpolations(settings: Any) -> Iterator[str]:
    if isinstance(settings, str) and "${" in settings:
        yield settings
    elif isinstance(settings, dict):
        for key, value in settings.items():
            yield from _interpolations(key)
            yield from _interpolations(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _interpolations(value)
