"""Paths of all settings of a configuration, and values that are known without an import."""

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cim_lightning.config.source_names import BUILT, UNKNOWN

HYDRA_KEYS = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}


def setting_paths(cfg: DictConfig | dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the path of every setting and the path that defines it, another one for "${data.view_size}"."""
    return ((path, defined) for path, defined, _ in _settings(cfg))


def missing_settings(cfg: DictConfig) -> list[str]:
    """Return the paths of the settings that have to be given, without computing any other."""
    return sorted(path for path, _, value in _settings(cfg) if value == "???")


def is_computed(settings: Any, name: str) -> bool:
    """Return whether a resolver computes a setting, as `${cim.precision:...}`; it may import torch for it."""
    if not isinstance(settings, DictConfig) or name not in [*settings]:  # `in settings` would compute it
        return False
    if not OmegaConf.is_interpolation(settings, name):
        return False
    written: Any = OmegaConf.to_container(settings, resolve=False)
    return ":" in written[name]


def known_value(node: DictConfig, name: Any) -> Any:
    """Return the value of a setting; BUILT for an object, and UNKNOWN for what a resolver computes."""
    if is_computed(node, name):
        return UNKNOWN
    value = node[name]
    if OmegaConf.is_config(value):
        text = str(OmegaConf.to_container(value))
        if "'_target_'" in text:
            return BUILT
        return UNKNOWN if "${" in text else OmegaConf.to_container(value, resolve=True)
    return value


def _settings(cfg: DictConfig | dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    plain: Any = cfg if isinstance(cfg, dict) else OmegaConf.to_container(cfg, resolve=False)
    queue: list[tuple[str, Any]] = [("", plain)]
    for parent, node in queue:
        for key, value in node.items() if isinstance(node, dict) else ():
            path = f"{parent}.{key}".lstrip(".")
            if reference := re.fullmatch(r"\$\{(\w[\w.]*)\}", str(value)):
                yield path, reference[1], value
            elif not re.fullmatch(r"\$\{[\w.]+\}", str(value)):
                queue.append((path, value))
                yield path, path, value


def no_default(key: str) -> str:
    """Return the line about a setting that has to be given."""
    return f"{key}: has no default; set {key}=..."
