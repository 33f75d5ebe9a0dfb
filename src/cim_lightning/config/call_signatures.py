"""Check that a `_partial_` setting can be called as the parameter that receives it declares."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args, get_origin

import yaml
from omegaconf import DictConfig, OmegaConf

from cim_lightning.config.compose import CONF
from cim_lightning.config.setting_paths import HYDRA_KEYS, setting_paths
from cim_lightning.config.signatures import Signature, imported_signature, read_signature
from cim_lightning.errors import ConfigError


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
        for name, count in _callables(_signature(node["_target_"])):
            part = node.get(name)
            if isinstance(part, DictConfig) and part.get("_partial_") and "_target_" in part:
                caller = node["_target_"].rpartition(".")[2]
                _check_call(used.get(f"{path}.{name}", f"{path}.{name}"), part, count, caller)


def _signature(target: str) -> Signature | None:
    """Return the signature of a target, from its source where possible: an import may take seconds."""
    return read_signature(target) or imported_signature("", target)


def _callables(signature: Signature | None) -> Iterator[tuple[str, int]]:
    """Yield the parameters of a target that are callables, with the number of their arguments."""
    for name, parameter in signature.parameters.items() if signature else ():
        hint = parameter.hint
        for option in (hint, *get_args(hint)):  # Callable[...] | None
            if get_origin(option) is Callable and isinstance(get_args(option)[0], list):
                yield name, len(get_args(option)[0])


def _check_call(path: str, part: DictConfig, count: int, caller: str) -> None:
    settings = {str(key) for key in part if key not in HYDRA_KEYS}
    if _accepts(part["_target_"], settings, count):
        return
    rule = f"{caller} calls it with {count} argument{'s' if count > 1 else ''}, which it does not take"
    options = [name for name, target in _options(path) if _accepts(target, settings, count)]
    hint = f"choose from {', '.join(options)}" if options else f"leave {path} out"
    raise ConfigError(path, str(part["_target_"]).rpartition(".")[2], rule, hint=hint)


def _accepts(target: str, settings: set[str], count: int) -> bool:
    """Return whether a target with these keyword arguments takes so many positional ones."""
    signature = _signature(target)
    if signature is None or signature.positional is None:
        return True
    names = [*signature.positional]
    leading = next((i for i, name in enumerate(names) if name in settings), len(names))
    required = [name for name in names[count:] if signature.positional[name] and name not in settings]
    return count <= leading and not required


def _options(group: str) -> Iterator[tuple[str, str]]:
    """Yield the options of a group that name their class themselves, with the class."""
    for file in sorted((CONF / group).glob("*.yaml")):
        content: Mapping[str, Any] = yaml.safe_load(file.read_text()) or {}
        if "_target_" in content:
            yield file.stem, content["_target_"]
