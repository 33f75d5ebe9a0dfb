"""Check that a `_partial_` setting can be called as the parameter that receives it declares."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from cim_lightning.config.compose import CONF
from cim_lightning.config.setting_paths import HYDRA_KEYS, setting_paths
from cim_lightning.errors import ConfigError

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def check_calls(cfg: DictConfig) -> None:
    """Check every partial setting, such as `method.decoder`, against the type hint `Callable[[int], ...]`.

    Args:
        cfg: that has passed `validate.check`.

    Raises:
        ConfigError: the number of arguments does not fit.
    """
    used = dict(setting_paths(cfg))
    for path in [path.removesuffix("._target_") for path in used if path.endswith("._target_")]:
        node = OmegaConf.select(cfg, path)
        for name, count in _callables(get_object(node["_target_"])):
            part = node.get(name)
            if isinstance(part, DictConfig) and part.get("_partial_") and "_target_" in part:
                caller = node["_target_"].rpartition(".")[2]
                _check_call(used.get(f"{path}.{name}", f"{path}.{name}"), part, count, caller)


def _callables(target: Any) -> Iterator[tuple[str, int]]:
    """Yield the parameters of a target that are callables, with the number of their arguments."""
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):  # hints of another library that resolve only inside its module
        return
    for name, hint in hints.items():
        for option in (hint, *get_args(hint)):  # Callable[...] | None
            if get_origin(option) is Callable and isinstance(get_args(option)[0], list):
                yield name, len(get_args(option)[0])


def _check_call(path: str, part: DictConfig, count: int, caller: str) -> None:
    settings = {str(key) for key in part if key not in HYDRA_KEYS}
    if _accepts(get_object(part["_target_"]), settings, count):
        return
    rule = f"{caller} calls it with {count} argument{'s' if count > 1 else ''}, which it does not take"
    options = [name for name, target in _options(path) if _accepts(get_object(target), settings, count)]
    hint = f"choose from {', '.join(options)}" if options else f"leave {path} out"
    raise ConfigError(path, str(part["_target_"]).rpartition(".")[2], rule, hint=hint)


def _accepts(target: Any, settings: set[str], count: int) -> bool:
    """Return whether a target with these keyword arguments takes so many positional ones."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except ValueError:  # a built-in class, which has no signature
        return True
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return True
    positional = [p for p in parameters if p.kind in POSITIONAL]
    leading = next((i for i, p in enumerate(positional) if p.name in settings), len(positional))
    required = [p.name for p in positional[count:] if p.default is p.empty and p.name not in settings]
    return count <= leading and not required


def _options(group: str) -> Iterator[tuple[str, str]]:
    """Yield the options of a group that name their class themselves, with the class."""
    for file in sorted((CONF / group).glob("*.yaml")):
        content: Mapping[str, Any] = yaml.safe_load(file.read_text()) or {}
        if "_target_" in content:
            yield file.stem, content["_target_"]
