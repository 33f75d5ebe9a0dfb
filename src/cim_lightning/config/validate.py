"""Holds a configuration against the code that it configures, before anything is built.

A group's schema is the signature of the class that its `_target_` names, so a setting is declared once: here
every key is looked up there, and every value is held against its type hint.
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from beartype import BeartypeConf
from beartype.door import is_bearable
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from cim_lightning.config.compose import CONF
from cim_lightning.config.messages import HYDRA_KEYS, as_typed, default_of, nearest, no_default
from cim_lightning.errors import ConfigError

LARGEST_SEED = 2**32 - 1  # of NumPy, and so of Lightning
INT_IS_FLOAT = BeartypeConf(is_pep484_tower=True)


def check(cfg: DictConfig, door: str) -> None:
    """Holds every setting of a door against the signature of what it configures.

    Raises:
        ConfigError: a key that nothing reads, a value of the wrong type, or a value still to be given.
    """
    for key in sorted(OmegaConf.missing_keys(cfg)):
        raise ConfigError(no_default(key))
    _check_door(cfg, door)
    for path, node in _targets(cfg):
        _check_target(path, node, door)


def _check_door(cfg: DictConfig, name: str) -> None:
    """The settings outside of all groups, and that there is no other."""
    door: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    groups = [str(key) for entry in door["defaults"] if isinstance(entry, dict) for key in entry]
    own = {str(key): value for key, value in door.items() if key not in ("defaults", "hydra", *groups)}
    for key in map(str, cfg):
        value = None if OmegaConf.is_missing(cfg, key) else cfg[key]
        if key not in own and key not in groups:
            raise ConfigError(f"{as_typed(key)}: nothing reads it; {nearest(key, [*own, *groups])}")
        if key in own and type(value) is not type(own[key]):
            near = "it has no default" if own[key] == "???" else f"try {key}={own[key]}, the default"
            raise ConfigError(f"{key}={value}: must be {_readable(type(own[key]))}; {near}")
    if "seed" in own and not 0 <= cfg.seed <= LARGEST_SEED:
        least_far = min(max(cfg.seed, 0), LARGEST_SEED)
        raise ConfigError(f"seed={cfg.seed}: must be in 0..{LARGEST_SEED}; try seed={least_far}")


def _targets(cfg: DictConfig, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Every node with a `_target_`, by its path; an interpolated node is checked where it is defined."""
    for key in map(str, cfg):
        whole = f"{path}.{key}" if path else key
        if OmegaConf.is_interpolation(cfg, key) or not isinstance(cfg[key], DictConfig):
            continue
        if "_target_" in cfg[key]:
            yield whole, cfg[key]
        yield from _targets(cfg[key], whole)


def _check_target(path: str, node: DictConfig, door: str) -> None:
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
            raise ConfigError(f"{path}.{name}: cannot be left out; {default_of(f'{path}.{name}', door)}")
    for name in map(str, node):
        if name in HYDRA_KEYS:
            continue
        if name not in names and not open_ended:
            raise ConfigError(
                f"{as_typed(f'{path}.{name}')}: {_short(target)} has no such setting; "
                f"{nearest(name, names, f'{path}.')}"
            )
        if OmegaConf.is_interpolation(node, name):
            continue  # checked where it comes from
        value = node[name]
        if isinstance(value, DictConfig) and "_target_" in value:
            continue  # what it will be is not known before it is made
        plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        hint = hints.get(name, Any)
        if not (_suits(plain, hint) or _suits(_tupled(plain), hint)):
            raise ConfigError(
                f"{path}.{name}={plain}: must be {_readable(hint)}; {default_of(f'{path}.{name}', door)}"
            )


def _target(path: str, name: str) -> Any:
    try:
        return get_object(name)
    except ImportError as error:
        cause = error.__cause__
        found = isinstance(cause, ModuleNotFoundError) and not name.startswith(f"{cause.name}")
        if found or not isinstance(cause, ModuleNotFoundError):  # it is there, and broken: show where
            raise
        raise ConfigError(f"{path}._target_={name}: cannot be imported: {cause}") from error


def _suits(value: Any, hint: Any) -> bool:
    if isinstance(value, bool) and not {bool, Any} & {hint, *get_args(hint)}:
        return False  # to Python it is a whole number, to whoever typed it it is not
    return is_bearable(value, hint, conf=INT_IS_FLOAT)


def _tupled(value: Any) -> Any:
    """YAML has lists only; a hint may ask for a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _short(target: Any) -> str:
    return getattr(target, "__qualname__", str(target))


def _readable(hint: Any) -> str:
    text = str(hint) if get_args(hint) or not inspect.isclass(hint) else hint.__name__
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)
    return re.sub(r"Optional\[(.+)\]$", r"\1 | null", text)
