"""Flags of the command line: those of Hydra, and settings in the style of argparse, which are refused."""

import functools
import re
from collections.abc import Sequence

from omegaconf import DictConfig

from cim_lightning.close_names import closest
from cim_lightning.config.choices import is_group
from cim_lightning.config.compose import default_config
from cim_lightning.config.setting_paths import setting_paths
from cim_lightning.config.suggestions import suggest_setting
from cim_lightning.config.synonyms import settings_for
from cim_lightning.errors import ConfigError

FLAGS_WITH_VALUE = (
    *("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp"),
    *("--cfg", "-c", "--package", "-p", "--experimental-rerun"),
)
FLAGS = (
    *FLAGS_WITH_VALUE,
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"),
    *("--shell-completion", "-sc", "--info", "-i"),
)


def is_flag(argument: str) -> bool:
    """Return whether an argument is a flag, not a negative number."""
    return argument.startswith("-") and not re.match(r"-+[\d.]", argument)


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the flags in front, since argparse reads overrides in one piece."""
    flags, overrides, values = [], [], iter(arguments)
    for argument in values:
        if not is_flag(argument):
            overrides.append(argument)
            continue
        flags.append(argument)
        if argument in FLAGS_WITH_VALUE and (value := next(values, None)) is not None:
            flags.append(value)
    return [*flags, *overrides]


def check_style(arguments: Sequence[str], command: str) -> None:
    """Refuse settings that are not written as `key=value`.

    Raises:
        ConfigError: an argument is written as `--lr 0.1`, `--lr=0.1`, `-b 4`, `lr 0.1` or `lr = 0.1`.
    """
    for i, argument in enumerate(arguments):
        after = [*arguments[i + 1 :], ""][0]
        if i and arguments[i - 1] in FLAGS_WITH_VALUE:
            continue
        if is_flag(argument) and argument.partition("=")[0] not in FLAGS:
            _refuse_flag(argument, after, command)
        elif not is_flag(argument) and "=" not in argument and after:
            spaced = after == "="
            value = [*arguments[i + 2 :], ""][0] if spaced else after
            if value and "=" not in value and (spaced or _is_setting(argument, command)):
                given = f"{argument} {'= ' if spaced else ''}{value}"
                raise ConfigError(f"{given}: a setting is one word; {_hint(argument, value, command)}")


def _refuse_flag(argument: str, after: str, command: str) -> None:
    name, equals, value = argument.partition("=")
    key = name.lstrip("-").replace("-", "_")
    if not equals and after and not is_flag(after) and "=" not in after:
        value, argument = after, f"{argument} {after}"
    elif not equals:
        key, value = (key[3:], "false") if key.startswith("no_") else (key, "true")
    is_known = _is_setting(key, command)
    if not is_known and (flag := closest(name, FLAGS, 0.75)):
        raise ConfigError(f"{argument}: no such flag; did you mean {flag}?")
    raise ConfigError(f"{argument}: a setting has no dashes; {_hint(key, value, command)}")


def _hint(key: str, value: str, command: str) -> str:
    exists = is_group(key) or key in _paths(command)
    return f"try {key}={value}" if exists else suggest_setting(f"{key}={value}", command, _defaults(command))


def _is_setting(key: str, command: str) -> bool:
    """Return whether a name is a setting, a group, or what another project calls one."""
    return is_group(key) or key in settings_for(command) or key in _paths(command)


def _paths(command: str) -> list[str]:
    return [path for path, _ in setting_paths(_defaults(command))]


@functools.cache
def _defaults(command: str) -> DictConfig:
    return default_config(command)
