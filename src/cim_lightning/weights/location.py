"""Find the file of weights that a path means."""

import os
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

from cim_lightning.errors import ConfigError
from cim_lightning.weights.foreign_files import check_format

UNTRAINED = "untrained"  # no weights
TIMM = "timm"  # the pretrained weights of an architecture
HUB = "hf-hub:"  # start of the name of a repository
# Of a run, an exported backbone, a Hugging Face folder.
FILES = (
    "checkpoints/last.ckpt",
    "checkpoints/previous.ckpt",
    "backbone.safetensors",
    "model.safetensors",
    "pytorch_model.bin",
)
SUFFIXES = {".bin", ".ckpt", ".pt", ".pth", ".safetensors", ".tar"}


def find_file(weights: str | Path, parameter: str) -> Path:
    """Return the file itself, or the file of weights in a folder.

    Raises:
        ConfigError: there is none, or several in a folder that is not of a known kind.
    """
    if not str(weights).strip() or "://" in str(weights):
        rule = "must be a path, timm or hf-hub:OWNER/NAME"
        raise ConfigError(parameter, weights, rule, hint="download the file and give its path")
    path = Path(os.path.expanduser(weights))  # unlike Path.expanduser, without an error for an unknown user
    for file in (path, *(path / name for name in FILES)):
        if file.is_file():
            return file
    if path.is_dir():
        return _only_file(path, parameter)
    similar = [p for p in sorted(path.parent.glob("*")) if p != path and p.name.startswith(path.name[:4])]
    hint = f"did you mean {similar[0]}?" if similar else "try a run's folder"
    raise ConfigError(parameter, path, "does not exist", hint=hint)


def check_file(weights: str, parameter: str) -> None:
    """Check that a path leads to weights, before anything imports torch, which takes seconds.

    Args:
        weights: a path; names such as "timm", which are no path, are not checked.
        parameter: for the error.

    Raises:
        ConfigError: there is no such file, or it starts as a file of another format.
    """
    if weights in (UNTRAINED, TIMM) or weights.startswith(HUB):
        return
    path = find_file(weights, parameter)
    if path == Path(os.path.expanduser(weights)):  # a run's folder may have another checkpoint that is intact
        with suppress(OSError, BadZipFile):  # which loading the file reports
            check_format(path, parameter)


def _only_file(folder: Path, parameter: str) -> Path:
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if len(files) == 1:
        return files[0]
    if files:
        rule = f"has {len(files)} files of weights"
        raise ConfigError(parameter, folder, rule, hint=f"choose one, such as {files[0]}")
    raise ConfigError(parameter, folder, "has neither a run nor weights", hint="give the path of a file")
