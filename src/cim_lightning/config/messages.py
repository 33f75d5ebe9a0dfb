"""Explain a user's error in one line: the setting, its value, the rule, and a suggestion."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cim_lightning.checks import did_you_mean
from cim_lightning.config.arguments import quote
from cim_lightning.config.compose import CONF, default_config
from cim_lightning.errors import ConfigError

PLUGINS = {"joblib", "submitit_local", "submitit_slurm", "optuna", "ray"}  # of our optional dependencies
HYDRA_KEYS = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}


def explain(
    error: BaseException, command: str, cfg: DictConfig | None = None, arguments: Sequence[str] = ()
) -> str | None:
    """Return one line about a user's error; None for any other error.

    Args:
        error: the exception.
        command: such as "pretrain".
        cfg: the composed configuration, in which the path of a parameter is looked up.
        arguments: of the command line, to quote from.
    """
    outermost = error
    while error.__cause__ is not None and not isinstance(error, (ConfigError, MissingConfigException)):
        if isinstance(error, InstantiationException) and "lightning.pytorch.trainer" in str(error):
            return f"trainer: {_one_line(error.__cause__)}"
        error = error.__cause__
    if isinstance(error, ConfigError):
        return _with_path(error, outermost, cfg)
    text = str(error)
    if type(error).__name__ == "MisconfigurationException":  # of Lightning, which is slow to import
        return f"trainer: {_one_line(error)}"
    if isinstance(error, ModuleNotFoundError) and isinstance(outermost, InstantiationException):
        return f"{str(outermost).splitlines()[-1]}: {_one_line(error)}"
    if isinstance(error, ValueError) and text.startswith("Config group override must be"):
        return _explain_group_value(arguments) or text.splitlines()[0]
    if isinstance(error, ValueError) and text.startswith("No trials are completed yet"):  # of optuna
        return "hydra/sweeper=optuna: no trial finished; failure.json in their folders has the reasons"
    if isinstance(error, OSError) and (override := _override("output_dir", arguments)) != "output_dir":
        folder = Path(override.partition("=")[2])
        if error.filename and Path(error.filename) in (folder, *folder.parents):
            return f"{override}: cannot be written ({error.strerror}); try another output_dir"
    if isinstance(error, MissingConfigException):
        return _explain_choice(text)
    if isinstance(error, OverrideParseException):
        reason = text.splitlines()[1 if text.startswith("Error parsing") else 0].split(": ")[0]
        key, equals, value = str(error.override).partition("=")
        hint = f"; to set text, quote it: {shlex.quote(f'{key}={quote(value)}')}" if equals else ""
        return f"{error.override}: cannot be parsed ({reason}); an override is key=value{hint}"
    if found := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{found[1]}: several values need a sweep; try cim-{command} -m {found[1]}"
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _explain_key(text, command, arguments)
    return None


def no_default(key: str) -> str:
    """Return the line about a setting that has to be given."""
    return f"{key}: has no default; set {key}=..."


def setting_paths(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield the path of every setting and the path that defines it, another one for "${data.view_size}"."""
    queue: list[tuple[str, Any]] = [("", OmegaConf.to_container(cfg, resolve=False))]
    for parent, node in queue:
        for key, value in node.items() if isinstance(node, dict) else ():
            path = f"{parent}.{key}".lstrip(".")
            if reference := re.fullmatch(r"\$\{(\w[\w.]*)\}", str(value)):
                yield path, reference[1]
            elif not re.fullmatch(r"\$\{[\w.]+\}", str(value)):
                queue.append((path, value))
                yield path, path


def _with_path(error: ConfigError, outermost: BaseException, cfg: DictConfig | None) -> str:
    """Return an error's line with the paths of its settings instead of the parameters.

    Settings of the object that raised the error come first, then settings with the error's value.
    """
    line = str(error).strip().rpartition("ConfigError: ")[2]  # a data worker's has a traceback in front
    name = error.parameter or line.partition("=")[0]  # and has lost its attributes
    if cfg is None or not name.isidentifier():
        return line
    found = re.search(r"full_key: (\S+)", str(outermost))  # Hydra names the node that it instantiated
    group = f"{found[1] if found else error.group}."
    paths = dict(setting_paths(cfg))
    defined = {used: path for used, path in paths.items() if used.rpartition(".")[2] == name}
    equal = {
        used: error.has_value and OmegaConf.select(cfg, path) == error.value for used, path in defined.items()
    }
    used = [u for u in defined if u.startswith(group) or equal[u] or not error.has_value]
    unset = name if error.has_value else f"{group}{name}".lstrip(".")
    path = defined[min(used, key=lambda u: (not u.startswith(group), not equal[u]))] if used else unset

    def expand(match: re.Match[str]) -> str:
        if match[0] == name:
            return path
        groups = path.split(".")[:-1]  # a parameter of the same group, or of a group around it
        known = (".".join([*groups[:depth], match[0]]) for depth in range(len(groups), 0, -1))
        return next((paths[used] for used in known if used in paths), match[0])

    return re.sub(r"^\w+(?=[=:])|(?<![\w./])\w+(?==)", expand, line)


def _explain_choice(text: str) -> str:
    """Return the line about an option that a config group does not have."""
    found = re.search(r"(?:find|load) '([^']+)'", text)
    if not found:
        return text.splitlines()[0]
    group, _, choice = found[1].rpartition("/")
    if group.startswith("hydra/") and choice in PLUGINS:
        extra = "ray" if choice == "ray" else "sweeps"
        return f"{group}={choice}: is not installed; try pip install 'cim-lightning[{extra}]'"
    top, _, folder = group.partition("/")
    if folder and top != "hydra" and not (CONF / group).is_dir():  # as experiment=ablaton/rotation
        group, choice = top, f"{folder}/{choice}"
    files = [file.relative_to(CONF / group) for file in (CONF / group).rglob("[!_]*.yaml")]
    options = {*re.findall(r"^\t([^_\s]\S*)$", text, re.MULTILINE), *(str(f.with_suffix("")) for f in files)}
    return f"{group}={choice}: no such {group}; {did_you_mean(choice, options)}"


def _explain_group_value(arguments: Sequence[str]) -> str | None:
    """Return the line about a config group that got null or a number."""
    for argument in arguments:
        group, _, value = argument.partition("=")
        if (CONF / group).is_dir() and not isinstance(yaml.safe_load(value), (str, list)):
            files = [file.relative_to(CONF / group) for file in (CONF / group).rglob("[!_]*.yaml")]
            first = min(str(file.with_suffix("")) for file in files)
            return f"{argument}: must be an option of {group}, or [] for none; try {group}={first}"
    return None


def _explain_key(text: str, command: str, arguments: Sequence[str]) -> str:
    """Return the line about a key that is missing, set twice or unknown."""
    if found := re.search(r"[Mm]issing (?:mandatory )?value: (\S+)", text):
        return no_default(found[1])
    first = text.splitlines()[0].rstrip(".")
    if found := re.search(r"(?:Multiple values for |item is already at ')([^\s']+?)(?:\. |')", first):
        override = _override(found[1], arguments)
        return f"{override}: it exists already; try {override.lstrip('+')}"
    key = re.search(r"(?:override|config\.) '([^'=]+)'", first) or re.search(r"full_key: (\S+)", text)
    if key is None:
        return first
    return f"{_override(key[1], arguments)}: no such setting or group; {_suggest_key(key[1], command)}"


def _suggest_key(key: str, command: str) -> str:
    if key.startswith("hydra."):  # the settings depend on the launcher and the sweeper
        return f"cim-{command} --cfg=hydra lists the settings"
    defaults = default_config(command)
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(defaults, parent) if parent else defaults
    if not isinstance(node, DictConfig):
        return did_you_mean(key, [path for path, defined in setting_paths(defaults) if path == defined])
    files: Any = {f.stem: OmegaConf.load(f) for f in (CONF / parent).glob("[!_]*.yaml") if parent}
    files = {name: settings.get(parent, settings) for name, settings in files.items()}  # @package _global_
    options = [name for name, settings in files.items() if leaf in [*settings]]  # `in` skips ???
    if options:
        shortest = min(options, key=lambda name: (len(files[name]), name))
        return f"try {parent}={shortest}, which has it"
    names = {str(name) for settings in (node, *files.values()) for name in settings}
    hint = did_you_mean(leaf, names - {*HYDRA_KEYS, "defaults"})
    return hint if not parent or "_target_" in node else f"{hint}; or add it: +{key}=..."


def _override(key: str, arguments: Sequence[str]) -> str:
    """Return the last override of a key on the command line; the key alone if there is none."""
    starts = (f"{key}=", f"{key}.")
    return next((a for a in reversed(arguments) if f"{a.lstrip('+~')}=".startswith(starts)), key)


def _one_line(error: BaseException | None) -> str:
    return " ".join(str(error).split())
