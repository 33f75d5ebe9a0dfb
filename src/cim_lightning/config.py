"""Configurations: where they lie, what they may hold, and the one line that a mistake gets.

A group's schema is the signature of the class that its `_target_` names, so a setting is declared once: here
every key is looked up there, and every value is held against its type hint.
"""

import difflib
import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

from beartype import BeartypeConf
from beartype.door import is_bearable
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cim_lightning.errors import SettingError

HYDRA_KEYS = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}
PACKAGED = Path(__file__).parent / "conf"
CONF = PACKAGED if PACKAGED.is_dir() else Path(__file__).parents[2] / "conf"
INT_IS_FLOAT = BeartypeConf(is_pep484_tower=True)


def register_resolvers() -> None:
    """Makes the values that depend on the machine: cim.workers, cim.precision, cim.wandb_mode."""
    OmegaConf.register_new_resolver("cim.workers", _workers, replace=True)
    OmegaConf.register_new_resolver("cim.precision", _precision, replace=True)
    OmegaConf.register_new_resolver("cim.wandb_mode", _wandb_mode, replace=True)


def _workers() -> int:
    """Decoding processes: the cores that this process may use, but for the one that trains; 16 at most."""
    return min(max(_cores() - 1, 1), 16)


def _cores() -> int:
    """That this process may use; macOS does not say, so all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _precision(accelerator: str) -> str:
    """bf16 where the hardware computes in it; emulated bf16 is many times slower than fp32."""
    import torch  # here and below: what takes seconds to import waits until it is needed

    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def _wandb_mode() -> str:
    """What WANDB_MODE says; else online where somebody is logged in, and offline where asking would block."""
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    import wandb

    return "online" if wandb.login(prompt=False, verify=False) else "offline"


def check(cfg: DictConfig) -> None:
    """Holds every setting against the signature of what it configures.

    Raises:
        SettingError: a key that nothing reads, a value of the wrong type, or a value still to be given.
    """
    for key in sorted(OmegaConf.missing_keys(cfg)):
        raise SettingError(f"{key}: has no default here, so give one, as in {key}=/my/images")
    _check_door(cfg)
    for path, node in _targets(cfg):
        _check_target(path, node)


def _check_door(cfg: DictConfig) -> None:
    """The settings outside of all groups, and that there is no other."""
    door: Any = OmegaConf.load(CONF / "pretrain.yaml")
    own = {str(key): value for key, value in door.items() if key not in ("defaults", "hydra")}
    groups = [str(key) for entry in door["defaults"] if isinstance(entry, DictConfig) for key in entry]
    for key in map(str, cfg):
        value = None if OmegaConf.is_missing(cfg, key) else cfg[key]
        if key not in own and key not in groups:
            raise SettingError(f"{_as_typed(key)}: nothing reads it; {nearest(key, [*own, *groups])}")
        if key in own and type(value) is not type(own[key]):
            raise SettingError(
                f"{key}={value}: must be {_readable(type(own[key]))}; nearest: {key}={own[key]}, the default"
            )
    if cfg.seed < 0:
        raise SettingError(f"seed={cfg.seed}: must be 0 or more; nearest: seed=0")


def _targets(cfg: DictConfig, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Every node with a `_target_`, by its path; an interpolated node is checked where it is defined."""
    for key in map(str, cfg):
        whole = f"{path}.{key}" if path else key
        if OmegaConf.is_interpolation(cfg, key) or not isinstance(cfg[key], DictConfig):
            continue
        if "_target_" in cfg[key]:
            yield whole, cfg[key]
        yield from _targets(cfg[key], whole)


def _check_target(path: str, node: DictConfig) -> None:
    target = _target(path, node["_target_"])
    try:
        signature = inspect.signature(target).parameters
    except ValueError:  # a class of the interpreter's own, such as timedelta, which checks for itself
        return
    named = {n: p for n, p in signature.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    names = list(named)
    open_ended = any(p.kind == p.VAR_KEYWORD for p in signature.values())
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):  # another library's hints that only its own imports can read
        hints = {}
    for name in [] if node.get("_partial_") else names:
        if named[name].default is inspect.Parameter.empty and name not in node:
            raise SettingError(f"{path}.{name}: cannot be left out; {_default_of(f'{path}.{name}')}")
    for name in map(str, node):
        if name in HYDRA_KEYS:
            continue
        if name not in names and not open_ended:
            raise SettingError(
                f"{_as_typed(f'{path}.{name}')}: {_short(target)} has no such setting; "
                f"{nearest(name, names, f'{path}.')}"
            )
        if OmegaConf.is_interpolation(node, name):
            continue  # checked where it comes from
        value = node[name]
        if isinstance(value, DictConfig) and "_target_" in value:
            continue  # what it will be is not known before it is made
        plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        hint = hints.get(name, Any)
        if not (
            is_bearable(plain, hint, conf=INT_IS_FLOAT)
            or is_bearable(_tupled(plain), hint, conf=INT_IS_FLOAT)
        ):
            raise SettingError(
                f"{path}.{name}={plain}: must be {_readable(hint)}; {_default_of(f'{path}.{name}')}"
            )


def _target(path: str, name: str) -> Any:
    try:
        return get_object(name)
    except ImportError as error:
        cause = error.__cause__
        found = isinstance(cause, ModuleNotFoundError) and not name.startswith(f"{cause.name}")
        if found or not isinstance(cause, ModuleNotFoundError):  # it is there, and broken: show where
            raise
        raise SettingError(f"{path}._target_={name}: cannot be imported: {cause}") from error


def _tupled(value: Any) -> Any:
    """YAML has lists only; a hint may ask for a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _short(target: Any) -> str:
    return getattr(target, "__qualname__", str(target))


def _readable(hint: Any) -> str:
    text = str(hint) if get_args(hint) or not inspect.isclass(hint) else hint.__name__
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)
    return re.sub(r"Optional\[(.+)\]$", r"\1 | null", text)


def _default_of(path: str) -> str:
    default = OmegaConf.select(_defaults(), path)
    return "see the README for its choices" if default is None else f"nearest: {path}={default}, the default"


def _defaults() -> DictConfig:
    """The door's configuration without a single override, to suggest from."""
    if GlobalHydra.instance().is_initialized():
        return compose("pretrain")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("pretrain")


def nearest(given: str, choices: Iterable[str], before: str = "") -> str:
    """The end of an error's line: what the user most likely meant, with what comes `before` it."""
    close = difflib.get_close_matches(given, choices, n=1, cutoff=0.4)
    return f"nearest: {before}{close[0]}" if close else f"choices: {', '.join(sorted(choices))}"


def explain(error: BaseException) -> str | None:
    """The one line for a user's mistake; None if the error is not one."""
    while error.__cause__ is not None and not isinstance(error, (SettingError, MissingConfigException)):
        if isinstance(error, InstantiationException) and "lightning.pytorch.trainer" in str(error):
            return f"trainer: {' '.join(str(error.__cause__).split())}"
        error = error.__cause__
    if isinstance(error, SettingError):
        return str(error).strip().rpartition("SettingError: ")[2]  # a data worker hands on its traceback too
    text = str(error)
    if isinstance(error, MissingConfigException):
        return _explain_missing(text)
    if isinstance(error, OverrideParseException):
        reason = text.splitlines()[1 if text.startswith("Error parsing") else 0]
        return (
            f"{error.override}: cannot be read ({reason.split(': ')[0]}); "
            f"an override is key=value, in quotes where it holds spaces, brackets or ~"
        )
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _explain_override(text)
    return None


def _explain_missing(text: str) -> str:
    found = re.search(r"(?:find|load) '([^']+)'", text)
    if not found:
        return text.splitlines()[0]
    group, _, choice = found[1].rpartition("/")
    options = {*re.findall(r"^\t(\S+)$", text, re.MULTILINE), *(f.stem for f in CONF.glob(f"{group}/*.yaml"))}
    options = [option for option in options if not option.startswith("_")]
    return f"{group}={choice}: there is no such {group}; {nearest(choice, options, f'{group}=')}"


def _explain_override(text: str) -> str:
    first = text.splitlines()[0].rstrip(".")
    if found := re.search(r"Multiple values for (\S+)\. ", first) or re.search(
        r"item is already at '(.+)'", first
    ):
        typed = _as_typed(found[1])
        return f"{typed}: it is there already; nearest: {typed.lstrip('+')}"
    key = re.search(r"(?:override|config\.) '([^'=]+)'", first) or re.search(r"full_key: (\S+)", text)
    if key is None:
        return first
    return f"{_as_typed(key[1])}: there is no such setting or group; {_nearest_key(key[1])}"


def _as_typed(key: str) -> str:
    """The override of a key on the command line; the key alone where it comes from elsewhere."""
    typed = [a for a in sys.argv[1:] if f"{a.lstrip('+~')}=".startswith((f"{key}=", f"{key}."))]
    return typed[-1] if typed else key


def _nearest_key(key: str) -> str:
    tree = _defaults()
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(tree, parent) if parent else tree
    if not isinstance(node, DictConfig):
        return nearest(key, [*_paths(tree)])
    group = (CONF / parent).glob("[!_]*.yaml") if parent else ()
    files: dict[str, Any] = {file.stem: OmegaConf.load(file) for file in group}
    having = [name for name, settings in files.items() if leaf in [*settings]]  # `in` passes over ???
    if having:
        plainest = min(having, key=lambda name: (len(files[name]), name))
        return f"nearest: {parent}={plainest}, which has it"
    choices = {str(name) for settings in (node, *files.values()) for name in settings}
    choices -= {*HYDRA_KEYS, "defaults"}
    near = nearest(leaf, choices, f"{parent}." if parent else "")
    return near if not parent or "_target_" in node else f"{near}; or add it: +{key}=..."


def _paths(node: DictConfig, path: str = "") -> Iterator[str]:
    for key in map(str, node):
        whole = f"{path}.{key}" if path else key
        yield whole
        if not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
            child = node[key]
            if isinstance(child, DictConfig):
                yield from _paths(child, whole)
