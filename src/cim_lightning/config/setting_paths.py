"""Paths of all settings of a configuration."""

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

HYDRA_KEYS = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}


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


def no_default(key: str) -> str:
    """Return the line about a setting that has to be given."""
    return f"{key}: has no default; set {key}=..."
