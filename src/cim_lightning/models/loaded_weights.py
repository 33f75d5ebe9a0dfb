"""Existing weights for a timm model: read, adapted, matched, and described in a line."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from cim_lightning.errors import ConfigError
from cim_lightning.models.adapt_weights import adapt_weights
from cim_lightning.weights.match import match
from cim_lightning.weights.normalization import Normalization, read_normalization
from cim_lightning.weights.reader import read_state

TOLERANCE = 1e-4  # of mean and std, which have three digits
MAX_NAMES = 5  # groups of left over tensors in the log line


class LoadedWeights(NamedTuple):
    """Origin of the weights of a backbone, and how they were changed to fit it."""

    source: str  # as given: a file, a folder, "timm" or "hf-hub:OWNER/NAME"
    layout: str  # such as "MAE"
    path: Path | None  # the file; None: downloaded by timm
    sha256: str | None  # of the file, which a running training replaces
    num_tensors: int
    notes: list[str]  # such as "EMA weights, not the online ones" or "positions 14x14 -> 10x10"
    normalization: Normalization | None  # of the images that they were trained with; None: unknown

    def __str__(self) -> str:
        loaded = f"{self.layout} ({self.source}): {self.num_tensors} of {self.num_tensors} tensors"
        return "; ".join([loaded, *self.notes])

    def record(self) -> dict[str, Any]:
        """Return the origin for run.json, with the SHA-256 of the file."""
        return self._asdict() | {"path": self.path and str(self.path.absolute())}


def fit_weights(
    model: Any, name: str, weights: str, layout: str = "auto"
) -> tuple[dict[str, Tensor], LoadedWeights]:
    """Return the state of a timm model from existing weights, and their origin. The model stays unchanged.

    Args:
        model: timm's model, without a classifier.
        name: timm's model name.
        weights: a file, a folder, a run, "timm" (timm's own pretrained weights) or "hf-hub:OWNER/NAME".
        layout: of the file; "auto": detected.

    Raises:
        ConfigError: there are no such weights, they do not fit, are quantized, or a value is not finite.
    """
    state = read_state(weights, model, layout)
    sha256 = _sha256(state.path) if state.path else None
    tensors, changes = adapt_weights(state.tensors, model, weights)
    expected = model.state_dict()
    matched = match(state._replace(tensors=tensors), expected, name)
    for key, tensor in matched.items():
        if expected[key].is_floating_point() and not tensor.is_floating_point():
            rule = f"these weights have integers in {key}"
            raise ConfigError("weights", weights, rule, hint="try the weights before quantization")
        if not tensor.float().isfinite().all():  # torch cannot check 8 bits
            rule = f"these weights have a value in {key} that is not finite"
            raise ConfigError("weights", weights, rule, hint="try an earlier checkpoint")
    left_over = Counter(key.partition(".")[0] for key in tensors if key not in matched)
    notes = [*state.notes, *changes, *_left_over(left_over)]
    normalization = read_normalization(state.path, model)
    return matched, LoadedWeights(
        weights, state.layout, state.path, sha256, len(matched), notes, normalization
    )


def check_normalization(loaded: LoadedWeights, used: Normalization, is_default: bool) -> LoadedWeights:
    """Return the weights, with a note if they were trained with another mean or std than given.

    Raises:
        ConfigError: they were, but mean and std are defaults.
    """
    found = loaded.normalization
    if found is None or len(found["mean"]) != len(used["mean"]):
        return loaded  # unknown, or of other channels
    if all(abs(a - b) < TOLERANCE for name in found for a, b in zip(found[name], used[name], strict=True)):
        return loaded
    hint = " ".join(f"{name}=[{','.join(f'{value:.6g}' for value in found[name])}]" for name in found)
    if is_default:
        rule = f"the default is not that of the weights ({loaded.layout})"
        raise ConfigError("mean", None, rule, hint=f"try {hint}")
    return loaded._replace(notes=[*loaded.notes, f"trained with {hint}"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _left_over(groups: Counter[str]) -> list[str]:
    """Return the note about tensors that the model does not have, counted by the first part of the name."""
    if not groups:
        return []
    shown = [
        f"{name} ({count} tensors)" if count > 1 else name for name, count in groups.most_common(MAX_NAMES)
    ]
    shown += [f"{len(groups) - MAX_NAMES} more"] if len(groups) > MAX_NAMES else []
    return [f"left over: {', '.join(shown)}"]
