"""Cache of trainings: an unfinished training resumes, a finished training is not repeated."""

import functools
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cim_lightning.atomic import read_json, replacing, write_json

SAVE_EVERY_SECONDS = 300.0


class TrainingCache:
    """Folder of one training. Its name ends in a hash of the arguments.

    `last.ckpt` is the state of an unfinished training. `weights.safetensors` and `result.json` are the result
    of a finished training.

    Args:
        folder: path of the folder, without the hash. The first save creates it.
        args: all arguments that can change the result, as plain values (see `fingerprint`).
    """

    def __init__(self, folder: Path, args: Any):
        digest = hashlib.sha256(json.dumps(args, sort_keys=True).encode()).hexdigest()[:12]
        self.folder, self.args = folder.with_name(f"{folder.name}-{digest}"), args
        self.saved_at = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last save of the state was five minutes ago or more."""
        return time.monotonic() - self.saved_at >= SAVE_EVERY_SECONDS

    def unfinished(self) -> dict[str, Any] | None:
        """Return the saved state of an interrupted training."""
        path = self.folder / "last.ckpt"
        return torch.load(path, "cpu", weights_only=True) if path.exists() else None

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Save plain values and state dicts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / "last.ckpt") as temporary:
            torch.save(dict(state), temporary)
        self.saved_at = time.monotonic()

    def finished(self) -> tuple[dict[str, Tensor], Any] | None:
        """Return the weights and the result of a finished training."""
        saved = read_json(self.folder / "result.json")
        return (load_file(self.folder / "weights.safetensors"), saved["result"]) if saved else None

    def save_result(self, weights: Mapping[str, Tensor], result: Any) -> None:
        """Save the weights and a result of plain values, and delete the state."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / "weights.safetensors") as temporary:
            save_file({name: tensor.contiguous() for name, tensor in weights.items()}, temporary)
        write_json(self.folder / "result.json", {"args": self.args, "result": result})
        (self.folder / "last.ckpt").unlink(missing_ok=True)


def fingerprint(thing: Any) -> Any:
    """Return the class and the public attributes of an object, recursively, as plain values."""
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    if isinstance(thing, Mapping):
        return {str(key): fingerprint(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [fingerprint(value) for value in thing]
    if isinstance(thing, functools.partial):
        return {"partial": fingerprint(thing.func), "args": fingerprint([thing.args, thing.keywords])}
    if callable(thing) and hasattr(thing, "__qualname__"):
        return f"{thing.__module__}.{thing.__qualname__}"
    public = {name: value for name, value in vars(thing).items() if not name.startswith("_")}
    return {"class": fingerprint(type(thing)), "args": fingerprint(public)}
