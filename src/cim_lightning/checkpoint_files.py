"""Checkpoints of a training on disk: `last.ckpt`, `previous.ckpt`, and which of them is intact."""

import logging
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cim_lightning.errors import ConfigError
from cim_lightning.weights.foreign_files import foreign_format

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
PARTS = {"state_dict", "loops", "global_step", "callbacks"}  # of every checkpoint of a Lightning training

log = logging.getLogger(__name__)


def exists(folder: Path) -> bool:
    """Return whether a folder has a checkpoint to resume from, intact or not."""
    return any((folder / name).exists() for name in (LAST, PREVIOUS))


def newest(folder: Path, parameter: str) -> Path | None:
    """Return the last intact checkpoint in a folder; None if there is no checkpoint.

    Args:
        folder: of the checkpoints.
        parameter: for the error.

    Raises:
        ConfigError: all are damaged, or one is a folder.
    """
    reasons = []
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        if path.is_dir():  # the next save could not replace it
            raise ConfigError(parameter, path, "is a folder", hint="move it away")
        reason = damage(path)
        if reason is None:
            if reasons:
                log.warning("%s; using %s instead", reasons[0], path)
            return path
        reasons.append(f"{path} {reason}")
    if not reasons:
        return None
    hint = "restore one from a backup, or start again in another output_dir"
    raise ConfigError(parameter, folder, f"no intact checkpoint: {', '.join(reasons)}", hint=hint)


def check(path: Path, parameter: str = "resume") -> None:
    """Raise ConfigError if a file is not an intact checkpoint of a training."""
    if (reason := damage(path)) is not None:
        previous = path.with_name(PREVIOUS)
        other = previous.name != path.name and previous.exists() and damage(previous) is None
        hint = f"try {previous}" if other else "give the path of another checkpoint"
        raise ConfigError(parameter, path, reason, hint=hint)


def check_fits(path: Path, state: Mapping[str, Any], parameter: str = "resume") -> None:
    """Check that training can continue from an intact checkpoint.

    Args:
        path: of the checkpoint.
        state: weights and buffers of the method.
        parameter: for the error.

    Raises:
        ConfigError: its weights are of another method or network, or the state of the optimizer is missing.
    """
    content = _load(path)
    weights, optimizers = content["state_dict"], content.get("optimizer_states")
    if not isinstance(weights, dict) or _shapes(weights) != _shapes(state):
        rule = "has the weights of another method or network than these settings"
        raise ConfigError(parameter, path, rule, hint="try the settings of its run, or backbone.weights=FILE")
    kinds = {"global_step": int, "loops": dict, "callbacks": dict, "lr_schedulers": list}
    wrong = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind)]
    if not isinstance(optimizers, list) or not all(
        isinstance(o, dict) and o.get("state") for o in optimizers
    ):
        wrong.append("optimizer_states")
    if wrong or not optimizers:
        rule = f"is incomplete: it has no usable {(wrong or ['optimizer_states'])[0]}"
        raise ConfigError(
            parameter, path, rule, hint="backbone.weights=FILE starts a new run from its weights"
        )


def damage(path: Path) -> str | None:
    """Return why a file is not an intact checkpoint of a training; None if it is one.

    All bytes are read and compared with the checksums that torch writes. No code in the file runs.
    """
    try:
        if not path.is_file():
            return "is not a file"
        if foreign := foreign_format(path):
            return foreign[0]
        if not zipfile.is_zipfile(path):
            return "is not a checkpoint of this project"
        if record := changed_record(path):
            return f"is damaged: {record} changed after it was written"
        missing = PARTS - _load(path).keys()
    except Exception as error:  # a damaged file can raise anything
        return f"is damaged ({_reason(error)})"
    return f"is not a checkpoint of a training: it has no {min(missing)}" if missing else None


def data_state(path: Path, name: str) -> dict[str, Any]:
    """Return the state of the data module of a class in a checkpoint; {} if it has none."""
    return _load(path).get(name, {})


def global_step(path: Path) -> int:
    """Return the number of optimizer steps of a checkpoint, without reading its weights."""
    return _load(path)["global_step"]


def changed_record(path: Path) -> str | None:
    """Return the first record of a file of torch.save that differs from its checksum, if there is one."""
    if not zipfile.is_zipfile(path):  # of an old version of torch, without checksums
        return None
    with zipfile.ZipFile(path) as archive:
        for record in archive.infolist():
            if record.external_attr:  # torch sets none, and does not read records with the one of folders
                return record.filename
        return archive.testzip()


def _load(path: Path) -> dict[str, Any]:
    import torch

    content = torch.load(path, "cpu", weights_only=True, mmap=True)
    return content if isinstance(content, dict) else {}


def _shapes(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "shape", None) for name, value in state.items()}


def _reason(error: Exception) -> str:
    """Return the first informative line of an error."""
    text = str(error)
    if unsafe := re.search(r"GLOBAL (\S+)", text):
        return f"it holds {unsafe[1]}, which could run code"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].removesuffix(".") if lines else type(error).__name__
