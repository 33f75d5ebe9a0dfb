"""Load a file of weights without running anything that it contains."""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from cim_lightning.errors import ConfigError
from cim_lightning.weights.foreign_files import check_format, is_safetensors
from cim_lightning.weights.pickle_file import Placeholder, load_pickle


def load(path: Path, parameter: str) -> dict[str, Any]:
    """Return the content of a file of torch.save or safetensors, which is recognized by its content.

    Args:
        path: of the file.
        parameter: for the error.

    Raises:
        ConfigError: the file is damaged, has no weights, or cannot be loaded without running code.
    """
    try:
        check_format(path, parameter)
        weights = load_file(path) if is_safetensors(path) else load_pickle(path, parameter)
    except ConfigError:
        raise
    except Exception as error:  # a damaged or foreign file can raise anything
        rule = f"cannot be read as weights ({_reason(error)})"
        raise ConfigError(parameter, path, rule, hint="download or save it again") from error
    if isinstance(weights, Placeholder) and isinstance(weights.state, dict):
        return {"model": weights}  # of torch.save(model)
    if not isinstance(weights, dict):
        kind = "tensor" if isinstance(weights, torch.Tensor) else type(weights).__name__
        raise ConfigError(parameter, path, f"is a {kind}, not weights by name")
    return weights


def _reason(error: Exception) -> str:
    """Return the first informative line of an error, without control characters."""
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip() or type(error).__name__
    return re.sub(r"\x1b\[\d*m|[\x00-\x1f\x7f]", "", text.splitlines()[0]).strip()
