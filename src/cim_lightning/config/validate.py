"""Validate a configuration against the signatures of its targets, before anything is built.

The signature of a `_target_` is the schema of its group: keys are parameters, and values match type hints.
"""

import inspect
import re
from collections.abc import Sequence
from typing import Any, get_args

from beartype import BeartypeConf
from beartype.door import is_bearable
from omegaconf import DictConfig, OmegaConf

from cim_lightning.checks import check_one_of, check_within
from cim_lightning.config import consistency
from cim_lightning.config.compose import CONF, default_config, resolver_type
from cim_lightning.config.constructor_checks import run_checks
from cim_lightning.config.setting_paths import (
    HYDRA_KEYS,
    is_computed,
    known_value,
    missing_settings,
    no_default,
    setting_paths,
)
from cim_lightning.config.signatures import imported_signature, read_signature
from cim_lightning.config.suggestions import suggest_setting
from cim_lightning.errors import ConfigError, format_value

MAX_SEED = 2**32 - 1  # of NumPy, and so of Lightning
# Of torch.compile; those of torch.compiler need an import of torch.
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
INT_IS_FLOAT = BeartypeConf(is_pep484_tower=True)


def check(
    cfg: DictConfig, command: str, overrides: Sequence[str] = (), incomplete: Sequence[str] = ()
) -> None:
    """Check every setting of a command, such as "pretrain". Numbers become text where the setting is text.

    Args:
        incomplete: groups that are not checked, because a checkpoint fills them in.
        overrides: of the command line, which have the text of the numbers: `data.root=1e5` is a folder.

    Raises:
        ConfigError: a key is unknown, a value has the wrong type, or a setting without a default is missing.
    """
    for key in missing_settings(cfg):
        raise ConfigError(no_default(key))
    _check_top_level(cfg, command)
    _check_targets(cfg, command, overrides, incomplete)


def _check_targets(
    cfg: DictConfig, command: str, overrides: Sequence[str], incomplete: Sequence[str]
) -> None:
    """Check the settings of every `_target_`, and together; what needs an import last: it takes seconds."""
    paths = [path.removesuffix("._target_") for path, _ in setting_paths(cfg) if path.endswith("._target_")]
    paths = [path for path in paths if path.partition(".")[0] not in incomplete]
    imported = [path for path in paths if read_signature(_target(cfg, path)) is None]
    for path in [path for path in paths if path not in imported]:
        check_target(path, cfg, command, overrides)
    if command == "pretrain":
        consistency.check_pretraining(cfg, overrides)
    else:
        consistency.check(cfg, overrides)
    for path in imported:
        check_target(path, cfg, command, overrides)


def _check_top_level(cfg: DictConfig, command: str) -> None:
    """Check the settings outside all groups, and that all settings are known."""
    file: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{command}.yaml"))
    groups = [str(key) for entry in file["defaults"] if isinstance(entry, dict) for key in entry]
    own = {str(key): value for key, value in file.items() if key not in ("defaults", "hydra", *groups)}
    for key in map(str, cfg):
        if key not in own and key not in groups:
            hint = suggest_setting(f"{key}={format_value(_plain(cfg[key]))}", command, cfg)
            raise ConfigError(key, _plain(cfg[key]), "no such setting", hint=hint)
        if key == "paths":  # the one group without a target
            known = [str(name) for name in OmegaConf.load(CONF / "paths" / "default.yaml")]
            for name in [str(name) for name in cfg.paths if name not in known]:
                raise ConfigError(
                    f"paths.{name}", rule="no such setting", hint=f"choose from {', '.join(known)}"
                )
        if key in own and not is_computed(cfg, key):
            hint = resolver_type(own[key]) or (str | None if own[key] is None else type(own[key]))
            _check_value(key, cfg[key], hint, command)
    if "seed" in own:
        check_within("seed", cfg.seed, 0, MAX_SEED)
    if "compile_mode" in own:
        check_one_of("compile_mode", cfg.compile_mode, COMPILE_MODES)


def check_target(path: str, cfg: DictConfig, command: str, overrides: Sequence[str] = ()) -> None:
    """Check the settings at a path against the signature of their `_target_`; see `check`."""
    node, target = OmegaConf.select(cfg, path), _target(cfg, path)
    signature = read_signature(target)
    is_read = signature is not None
    if signature is None and (signature := imported_signature(path, target)) is None:
        return
    given = [*map(str, node)]  # `in node` would compute a setting
    for name, parameter in signature.parameters.items():
        if name not in given and parameter.required and not node.get("_partial_"):
            suggest = _default(f"{path}.{name}", command)
            raise ConfigError(f"{path}.{name}", rule="cannot be left out", **suggest)
    of_source = _hints_of_source(path, cfg)
    hints = of_source | {name: parameter.hint for name, parameter in signature.parameters.items()}
    any_name = signature.any_name and not of_source
    for name in [name for name in given if name not in HYDRA_KEYS]:
        if name not in hints and not any_name:
            value, rule = _plain(node[name]), f"{signature.target} has no such setting"
            hint = suggest_setting(f"{path}.{name}={format_value(value)}", command, cfg)
            raise ConfigError(f"{path}.{name}", value, rule, hint=hint)
        if not OmegaConf.is_interpolation(node, name):
            _numbers_to_text(node, name, hints.get(name, Any), f"{path}.{name}", overrides)
            _check_value(f"{path}.{name}", node[name], hints.get(name, Any), command)
    if is_read:
        _check_constructor(path, node, target)


def _target(cfg: DictConfig, path: str) -> str:
    """Return the `_target_` of the settings at a path, or raise ConfigError if it is not text."""
    target = OmegaConf.select(cfg, f"{path}._target_")
    if not isinstance(target, str):
        raise ConfigError(f"{path}._target_", target, "must be the full name of a class or function")
    return target


def _check_constructor(path: str, node: DictConfig, target: str) -> None:
    """Run the checks of a constructor that need no imports."""
    settings = {str(name): known_value(node, name) for name in node if name not in HYDRA_KEYS}
    try:
        run_checks(target, settings, partial=bool(node.get("_partial_")))
    except ConfigError as error:
        error.group = path
        raise


def _hints_of_source(path: str, cfg: DictConfig) -> dict[str, Any]:
    """Return the type hints of a `source`, whose arguments its parent passes on, as ImageData does."""
    if not isinstance(OmegaConf.select(cfg, f"{path}.source"), DictConfig):
        return {}
    target = _target(cfg, f"{path}.source")
    signature = read_signature(target) or imported_signature(f"{path}.source", target)
    return {} if signature is None else {n: p.hint for n, p in signature.parameters.items()}


def _numbers_to_text(node: DictConfig, name: str, hint: Any, path: str, overrides: Sequence[str]) -> None:
    """Replace a number or bool by its text if the setting is text, also in a list: `data.root=2024`."""
    value = _plain(node[name])
    if isinstance(value, list):
        text: Any = [str(item) if isinstance(item, bool | int | float) else item for item in value]
    elif isinstance(value, bool | int | float):
        typed = [o.partition("=")[2] for o in overrides if o.lstrip("+").partition("=")[0] == path]
        text = typed[-1] if typed else str(value)
    else:
        return
    if not _matches(value, hint) and _matches(text, hint):
        node[name] = text


def _check_value(path: str, value: Any, hint: Any, command: str) -> None:
    if isinstance(value, DictConfig) and "_target_" in value:
        return  # the type of what it builds is not known yet
    value = _plain(value)
    as_tuple = tuple(value) if isinstance(value, list) else value  # YAML has no tuples
    if not (_matches(value, hint) or _matches(as_tuple, hint)):
        raise ConfigError(path, value, f"must be {_readable(hint)}", **_default(path, command))


def _default(path: str, command: str) -> dict[str, Any]:
    """Return the default of a setting as the suggestion of an error, if it has one."""
    parent, _, name = path.rpartition(".")
    defaults = default_config(command)
    if is_computed(OmegaConf.select(defaults, parent) if parent else defaults, name):
        return {"hint": "leave it out for the default"}
    default = OmegaConf.select(defaults, path, throw_on_resolution_failure=False)
    return {} if default is None else {"suggest": _plain(default)}


def _matches(value: Any, hint: Any) -> bool:
    if isinstance(value, bool) and not {bool, Any} & {hint, *get_args(hint)}:
        return False  # bool is an int to Python, but not to a user
    # beartype checks one random item of a list
    parts = [value, *([item] for item in value)] if isinstance(value, list) else [value]
    return all(is_bearable(part, hint, conf=INT_IS_FLOAT) for part in parts)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _readable(hint: Any) -> str:
    text = str(hint) if get_args(hint) or not inspect.isclass(hint) else hint.__name__
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text).replace("Sequence", "list")
    return re.sub(r"Optional\[(.+)\]$", r"\1 | null", text)
