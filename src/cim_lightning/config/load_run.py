"""A method from the checkpoint of a run, for `load_from_checkpoint`."""

from pathlib import Path
from typing import Any

from cim_lightning.checkpoint import RunCheckpoint, read_weights
from cim_lightning.errors import ConfigError


def load_run(checkpoint_path: str | Path, kind: type) -> Any:
    """Return the method of a folder or checkpoint of `cim-pretrain`.

    Raises:
        ConfigError: the checkpoint has no settings, or is not one of a method of this kind.
    """
    weights = read_weights(str(checkpoint_path))
    if not isinstance(weights, RunCheckpoint):
        hint = "give the arguments of the constructor as keywords"
        raise ConfigError("checkpoint_path", checkpoint_path, "has no settings of a method", hint=hint)
    from cim_lightning.config.from_checkpoint import load  # imports Hydra

    method, _ = load(weights)
    if not isinstance(method, kind):
        rule, found = f"is not a checkpoint of {kind.__name__}", type(method).__name__
        hint = f"try {found}.load_from_checkpoint"
        raise ConfigError("checkpoint_path", checkpoint_path, rule, hint=hint)
    return method
