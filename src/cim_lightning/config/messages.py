"""The one line that a mistake gets: what was typed, the rule, and what was most likely meant."""

import difflib
import re
import sys
from collections.abc import Iterable, Iterator
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

from cim_lightning.config.compose import CONF, defaults
from cim_lightning.errors import ConfigError

EXTRAS = {  # of which plugin of Hydra's, by the choice that it brings
    "joblib": "sweeps",
    "submitit_local": "sweeps",
    "submitit_slurm": "sweeps",
    "optuna": "sweeps",
    "ray": "ray",
}
HYDRA_KEYS = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}


def explain(error: BaseException, door: str, cfg: DictConfig | None = None) -> str | None:
    """Return the one line for a user's mistake; None if the error is not one.

    Args:
        error: what was raised.
        door: name of the command.
        cfg: its composed configuration, in which the path of a parameter is looked up.
    """
    outermost = error
    while error.__cause__ is not None and not isinstance(error, (ConfigError, MissingConfigException)):
        if isinstance(error, InstantiationException) and "lightning.pytorch.trainer" in str(error):
            return f"trainer: {' '.join(str(error.__cause__).split())}"
        error = error.__cause__
    if isinstance(error, ConfigError):
        return _with_path(error, outermost, cfg)
    text = str(error)
    if type(error).__name__ == "MisconfigurationException":  # Lightning's, which takes seconds to import
        return f"trainer: {' '.join(text.split())}"
    if isinstance(error, ModuleNotFoundError) and isinstance(outermost, InstantiationException):
        return f"{str(outermost).splitlines()[-1]}: {' '.join(text.split())}"
    if isinstance(error, ValueError) and text.startswith("Config group override must be"):  # Hydra's own
        for typed in sys.argv[1:]:
            group, _, value = typed.partition("=")
            if (CONF / group).is_dir() and not isinstance(yaml.safe_load(value), (str, list)):
                return f"{typed}: a choice of {group}, or [] for none; {_choices(group)}"
        return text.splitlines()[0]
    if isinstance(error, ValueError) and text.startswith("No trials are completed yet"):  # optuna's
        return "hydra/sweeper=optuna: no trial came to its end; failure.json in their folders says why"
    if isinstance(error, OSError) and (typed := as_typed("output_dir")) != "output_dir":
        wanted = Path(typed.partition("=")[2])
        if error.filename and Path(error.filename) in (wanted, *wanted.parents):
            return f"{typed}: cannot be written to ({error.strerror}); try a folder of your own"
    if isinstance(error, MissingConfigException):
        return _explain_missing(text)
    if isinstance(error, OverrideParseException):
        reason = text.splitlines()[1 if text.startswith("Error parsing") else 0]
        return (
            f"{error.override}: cannot be read ({reason.split(': ')[0]}); "
            f"an override is key=value, in quotes where it holds spaces, brackets or ~"
        )
    if found := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{found[1]}: several values are a sweep; try cim-{door} -m {found[1]}"
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _explain_override(text, door)
    return None


def _with_path(error: ConfigError, outermost: BaseException, cfg: DictConfig | None) -> str:
    """The line of an error, its parameter called by its path in the configuration."""
    if cfg is None or not error.parameter:
        return str(error).strip().rpartition("ConfigError: ")[2]  # a worker's text has its traceback in front
    found = re.search(r"full_key: (\S+)", str(outermost))  # Hydra's: the node that was instantiated
    return error.line(setting_path(cfg, error, found[1] if found else error.group) or error.parameter)


def setting_path(cfg: DictConfig, error: ConfigError, group: str) -> str | None:
    """The path of the setting that gave a parameter its value, in or below a group first, else anywhere."""
    for start in dict.fromkeys((group, "")):
        paths = [
            (OmegaConf.select(cfg, path) != error.value, order, path)
            for order, path in enumerate(_breadth_first(cfg, start))
            if path.rpartition(".")[2] == error.parameter
        ]
        if paths:
            return min(paths)[2]
    return None


def _breadth_first(cfg: DictConfig, start: str) -> Iterator[str]:
    """Paths of all settings below a node, the shallow ones first; of `${other}`, the paths of the other."""
    waiting = [start]
    while waiting:
        path = waiting.pop(0)
        node = OmegaConf.select(cfg, path) if path else cfg
        for key in node if isinstance(node, DictConfig) else ():
            if not path and key == "hydra":
                continue
            child = f"{path}.{key}" if path else str(key)
            if OmegaConf.is_interpolation(node, str(key)):
                written: Any = OmegaConf.to_container(node, resolve=False)
                refers = re.fullmatch(r"\$\{(\w[\w.]*)\}", written[key])
                child = refers[1] if refers else child
            yield child
            if not OmegaConf.is_missing(node, str(key)):
                waiting.append(child)


def _explain_missing(text: str) -> str:
    found = re.search(r"(?:find|load) '([^']+)'", text)
    if not found:
        return text.splitlines()[0]
    group, _, choice = found[1].rpartition("/")
    if group.startswith("hydra/") and choice in EXTRAS:
        return f"{group}={choice}: is not installed; try pip install 'cim-lightning[{EXTRAS[choice]}]'"
    options = {*re.findall(r"^\t(\S+)$", text, re.MULTILINE), *(f.stem for f in CONF.glob(f"{group}/*.yaml"))}
    options = [option for option in options if not option.startswith("_")]
    above, _, below = group.partition("/")
    if below and above != "hydra" and not (CONF / group).is_dir():  # the folder of a recipe is mistyped
        group, choice, options = above, f"{below}/{choice}", [*_choices_below(CONF / above)]
    return f"{group}={choice}: there is no such {group}; {nearest(choice, options, f'{group}=')}"


def _choices_below(group: Path) -> Iterator[str]:
    for file in sorted(group.rglob("[!_]*.yaml")):
        yield str(file.relative_to(group).with_suffix(""))


def no_default(key: str) -> str:
    """The line for a setting that must be given."""
    return f"{key}: has no default here, so give one, as in {key}=..."


def _explain_override(text: str, door: str) -> str:
    if found := re.search(r"[Mm]issing (?:mandatory )?value: (\S+)", text):
        return no_default(found[1])
    first = text.splitlines()[0].rstrip(".")
    if found := re.search(r"Multiple values for (\S+)\. ", first) or re.search(
        r"item is already at '(.+)'", first
    ):
        typed = as_typed(found[1])
        return f"{typed}: it is there already; try {typed.lstrip('+')}"
    key = re.search(r"(?:override|config\.) '([^'=]+)'", first) or re.search(r"full_key: (\S+)", text)
    if key is None:
        return first
    return f"{as_typed(key[1])}: there is no such setting or group; {_nearest_key(key[1], door)}"


def nearest(given: str, choices: Iterable[str], before: str = "") -> str:
    """The end of an error's line: what the user most likely meant, with what comes `before` it."""
    close = difflib.get_close_matches(given, choices, n=1, cutoff=0.4)
    return f"try {before}{close[0]}" if close else f"choices: {', '.join(sorted(choices))}"


def default_of(path: str, door: str) -> str:
    """The end of an error's line where any other value would do: the one that the setting has by itself."""
    default = OmegaConf.select(defaults(door), path)
    return "it has no default" if default is None else f"try {path}={default}, the default"


def as_typed(key: str) -> str:
    """The override of a key on the command line; the key alone where it comes from elsewhere."""
    typed = [a for a in sys.argv[1:] if f"{a.lstrip('+~')}=".startswith((f"{key}=", f"{key}."))]
    return typed[-1] if typed else key


def _nearest_key(key: str, door: str) -> str:
    tree = defaults(door)
    if key.startswith("hydra."):  # which depends on the launcher and the sweeper
        return f"cim-{door} --cfg=hydra lists those that there are"
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(tree, parent) if parent else tree
    if not isinstance(node, DictConfig):
        return nearest(key, [*_paths(tree)])
    group = (CONF / parent).glob("[!_]*.yaml") if parent else ()
    files: dict[str, Any] = {file.stem: _settings(file, parent) for file in group}
    having = [name for name, settings in files.items() if leaf in [*settings]]  # `in` passes over ???
    if having:
        plainest = min(having, key=lambda name: (len(files[name]), name))
        return f"try {parent}={plainest}, which has it"
    choices = {str(name) for settings in (node, *files.values()) for name in settings}
    choices -= {*HYDRA_KEYS, "defaults"}
    near = nearest(leaf, choices, f"{parent}." if parent else "")
    return near if not parent or "_target_" in node else f"{near}; or add it: +{key}=..."


def _choices(group: str) -> str:
    return f"try {group}={min(file.stem for file in (CONF / group).glob('[!_]*.yaml'))}"


def _settings(file: Path, group: str) -> Any:
    """What a file says of its group, though it may say something of others beside it."""
    said: Any = OmegaConf.load(file)
    return said[group] if file.read_text().startswith("# @package _global_") else said


def _paths(node: DictConfig, path: str = "") -> Iterator[str]:
    for key in map(str, node):
        whole = f"{path}.{key}" if path else key
        yield whole
        if not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
            child = node[key]
            if isinstance(child, DictConfig):
                yield from _paths(child, whole)
