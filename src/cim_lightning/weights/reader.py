"""Read the weights of a backbone from a file or folder in any common layout."""

from pathlib import Path
from typing import Any

from torch import nn

from cim_lightning.errors import ConfigError
from cim_lightning.weights.file import load
from cim_lightning.weights.location import find_file
from cim_lightning.weights.names import below, best_prefix, count_prefixes, flatten
from cim_lightning.weights.state import BackboneState


def read_state(weights: str, model: nn.Module, layout: str = "auto") -> BackboneState:
    """Return the weights of a backbone, under timm's names.

    Args:
        weights: a file, a folder or a run.
        model: the timm model that they are for.
        layout: of the names in the file.

    Raises:
        ConfigError: there are no such weights, or none for this architecture.
    """
    path = find_file(Path(weights).expanduser(), "weights")
    return _read(load(path, "weights"), path, model)


def _read(checkpoint: dict[str, Any], path: Path, model: nn.Module) -> BackboneState:
    tensors, notes = flatten(checkpoint), []
    counts = count_prefixes(tensors, model.state_dict().keys())
    if not counts:
        rule = f"has none of the tensors of this model, but {', '.join([*tensors][:5]) or 'no tensors'}"
        raise ConfigError("weights", path, rule, hint="try the architecture of these weights")
    prefix, other = best_prefix(counts)
    if other is not None:
        notes.append(f"{prefix or 'top level'}, not {other or 'top level'}")
    return BackboneState(below(tensors, prefix), "timm", path, notes)
