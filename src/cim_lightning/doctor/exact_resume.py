"""Proof of exact resume: a straight, a repeated and a resumed training end in equal values."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch

from cim_lightning.doctor.finding import Finding

SAVED_AT, STEPS = 3, 6  # optimizer steps
# Parts of a checkpoint that must be equal, by the name that the table shows.
PARTS = {
    "weights": "state_dict",
    "optimizer": "optimizer_states",
    "schedule": "lr_schedulers",
    "images": "ImageData",
    "steps": "global_step",
}


class SaveAt(L.Callback):
    """Save a checkpoint between two steps, where `last.ckpt` is saved too.

    Args:
        step: number of optimizer steps before the save.
        path: of the checkpoint.
    """

    def __init__(self, step: int, path: Path):
        self.step, self.path = step, path

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step and not self.path.exists():
            trainer.save_checkpoint(self.path)


def verify_resume(build: Callable[[Path, bool], Any], folder: Path) -> list[Finding]:
    """Train three times and compare the ends: twice from the start, and once from a saved step.

    Args:
        build: returns a new run with `method`, `data` and `trainer` for `STEPS` steps, from the folder of the
            run and whether a checkpoint replaces its first weights.
        folder: for temporary files.
    """
    ends = []
    for number, resumed in enumerate((False, False, True)):
        run = build(folder / str(number), resumed)
        saved = folder / "0" / "saved.ckpt"
        if number == 0:
            run.trainer.callbacks.append(SaveAt(SAVED_AT, saved))
        run.trainer.fit(run.method, datamodule=run.data, ckpt_path=str(saved) if resumed else None)
        end = folder / str(number) / "end.ckpt"
        run.trainer.save_checkpoint(end)
        ends.append(torch.load(end, "cpu", weights_only=True))
    straight, again, resumed = ends
    return [
        *_compare(straight, again, "repeated", "this device computes other numbers each time"),
        *_compare(straight, resumed, "resumed", "training continues with other numbers"),
    ]


def _compare(one: Mapping[str, Any], other: Mapping[str, Any], title: str, problem: str) -> Iterator[Finding]:
    """Yield one row per part of two checkpoints."""
    for name, key in PARTS.items():
        first, second = _leaves(one.get(key, {})), _leaves(other.get(key, {}))
        unequal = [path for path in first | second if not _equal(first.get(path), second.get(path))]
        if unequal:
            worst = f"{unequal[0]} differs{_distance(first.get(unequal[0]), second.get(unequal[0]))}"
            text = f"{len(unequal)} of {len(first)} values differ; {worst}"
            yield Finding(f"{title}: {name}", text, problem)
        else:
            yield Finding(f"{title}: {name}", f"all {len(first)} values are equal, bit for bit")


def _leaves(node: Any, path: str = "") -> dict[str, Any]:
    """Return the values of nested dictionaries and lists by their path."""
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, list | tuple):
        items = enumerate(node)
    else:
        return {path or "value": node}
    found = {}
    for key, value in items:
        found |= _leaves(value, f"{path}.{key}".lstrip("."))
    return found


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return type(one) is type(other) and one == other


def _distance(one: Any, other: Any) -> str:
    same_shape = (
        isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and one.shape == other.shape
    )
    return f" by at most {(one.double() - other.double()).abs().max():.2g}" if same_shape else ""
