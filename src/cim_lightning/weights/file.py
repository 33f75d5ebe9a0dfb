"""Load a file of weights without running anything that it contains."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from cim_lightning.errors import ConfigError


def load(path: Path, parameter: str) -> dict[str, Any]:
    """Return the content of a file of weights.

    Raises:
        ConfigError: the file is damaged, or no file of weights.
    """
    safe = path.suffix == ".safetensors"
    try:
        weights = load_file(path) if safe else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # a damaged or foreign file can raise anything
        reason = str(error).splitlines()[0]
        raise ConfigError(parameter, path, f"cannot be read as weights ({reason})") from error
    if not isinstance(weights, dict):
        raise ConfigError(parameter, path, f"is a {type(weights).__name__}, not weights by name")
    return weights
