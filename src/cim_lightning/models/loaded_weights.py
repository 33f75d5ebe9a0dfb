"""Load existing weights into a timm model: read, adapt, match."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from cim_lightning.errors import ConfigError
from cim_lightning.models.adapt_weights import adapt_weights
from cim_lightning.weights.match import match
from cim_lightning.weights.reader import read_state

MAX_NAMES = 5  # groups of left over tensors in the log line


class LoadedWeights(NamedTuple):
    """Origin of the weights of a backbone, and how they were changed to fit it."""

    source: str  # as given: a file, a folder, "timm" or "hf-hub:OWNER/NAME"
    layout: str  # such as "MAE"
    path: Path | None  # the file
    num_tensors: int
    notes: list[str]  # such as "EMA weights, not the online ones" or "positions 14x14 -> 10x10"

    def __str__(self) -> str:
        source = self.path.name if self.path else self.source
        loaded = f"{self.layout} ({source}): {self.num_tensors} of {self.num_tensors} tensors"
        return "; ".join([loaded, *self.notes])

    def record(self) -> dict[str, Any]:
        """Return the origin for run.json, with the SHA-256 of the file."""
        record = self._asdict() | {"path": self.path and str(self.path.absolute())}
        if self.path is not None:
            with self.path.open("rb") as file:
                record["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        return record


def load_weights(model: Any, name: str, weights: str, layout: str = "auto") -> LoadedWeights:
    """Load weights into a timm model, all or none.

    Args:
        model: timm's model, without a classifier.
        name: timm's model name.
        weights: a file, a folder, a run, "timm" (timm's own pretrained weights) or "hf-hub:OWNER/NAME".
        layout: of the file; "auto": detected.

    Raises:
        ConfigError: there are no such weights, they do not fit, or a value is not finite.
    """
    state = read_state(weights, model, layout)
    tensors, changes = adapt_weights(state.tensors, model, weights)
    expected = model.state_dict()
    matched = match(state._replace(tensors=tensors), expected, name)
    for key, tensor in matched.items():
        if not tensor.isfinite().all():
            rule = f"these weights have a value in {key} that is not finite"
            raise ConfigError("weights", weights, rule, hint="try an earlier checkpoint")
    model.load_state_dict(matched)
    left_over = Counter(key.partition(".")[0] for key in tensors if key not in matched)
    return LoadedWeights(
        weights, state.layout, state.path, len(matched), [*state.notes, *changes, *_left_over(left_over)]
    )


def _left_over(groups: Counter[str]) -> list[str]:
    """Return the note about tensors that the model does not have, counted by the first part of the name."""
    if not groups:
        return []
    shown = [
        f"{name} ({count} tensors)" if count > 1 else name for name, count in groups.most_common(MAX_NAMES)
    ]
    shown += [f"{len(groups) - MAX_NAMES} more"] if len(groups) > MAX_NAMES else []
    return [f"left over: {', '.join(shown)}"]
