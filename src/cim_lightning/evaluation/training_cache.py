"""What a training leaves on disk, so that an interrupted one goes on and a finished one is not repeated."""

import functools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

EVERY_SECONDS = 300.0  # between two times that a training under way is kept


class TrainingCache:
    """A folder for one training, which is known again by what was asked of it.

    `last.ckpt` holds a training under way, `weights.safetensors` beside `asked.json` one that ended; either
    counts only for the very same `asked`.

    Args:
        folder: where; made when there is something to keep.
        asked: what the result depends on, as plain values (see `fingerprint`).
    """

    def __init__(self, folder: Path, asked: Any):
        self.folder, self.asked = folder, json.loads(json.dumps(asked))
        self.at = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to keep a training under way."""
        return time.monotonic() - self.at >= EVERY_SECONDS

    def begun(self) -> dict[str, Any] | None:
        """The state of the same training, where it was interrupted."""
        path = self.folder / "last.ckpt"
        state = torch.load(path, "cpu", weights_only=True) if path.exists() else None
        return state if state is not None and state.pop("asked") == self.asked else None

    def keep(self, state: Mapping[str, Any]) -> None:
        """Keeps a training under way: plain values and state_dicts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = self.folder / "last.tmp"
        torch.save({**state, "asked": self.asked}, fresh)
        fresh.replace(self.folder / "last.ckpt")  # never half a file
        self.at = time.monotonic()

    def ended(self) -> tuple[dict[str, Tensor], Any] | None:
        """Weights of the same training at its end, and what was said with them."""
        path = self.folder / "asked.json"
        found = json.loads(path.read_text()) if path.exists() else {}
        if found.get("asked") != self.asked:
            return None
        return load_file(self.folder / "weights.safetensors"), found["said"]

    def end(self, weights: Mapping[str, Tensor], said: Any) -> None:
        """Keeps the end of a training, which needs no state to go on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "asked.json").unlink(missing_ok=True)  # of other weights
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, self._fresh)
        self._fresh.replace(self.folder / "weights.safetensors")
        self._fresh.write_text(json.dumps({"asked": self.asked, "said": said}, indent=2) + "\n")
        self._fresh.replace(self.folder / "asked.json")
        (self.folder / "last.ckpt").unlink(missing_ok=True)

    @property
    def _fresh(self) -> Path:
        return self.folder / "fresh.tmp"


def fingerprint(thing: Any) -> Any:
    """A part's settings as plain values, however deep: what it was made with, by attribute."""
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    if isinstance(thing, Mapping):
        return {str(key): fingerprint(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [fingerprint(value) for value in thing]
    if isinstance(thing, functools.partial):
        return {"calls": fingerprint(thing.func), "with": fingerprint([thing.args, thing.keywords])}
    if callable(thing) and hasattr(thing, "__qualname__"):
        return f"{thing.__module__}.{thing.__qualname__}"
    public = {name: value for name, value in vars(thing).items() if not name.startswith("_")}
    return {"is": fingerprint(type(thing)), "with": fingerprint(public)}
