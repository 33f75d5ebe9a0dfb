"""Recognize files that are no weights of torch, by their first bytes."""

import zipfile
from pathlib import Path

from cim_lightning.errors import ConfigError

DOWNLOAD = "download the file again"
PYTORCH = "try the PyTorch weights of the same model"
SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file", "run git lfs pull"),
    (b"<!doctype", "is a web page, not weights", DOWNLOAD),
    (b"<html", "is a web page, not weights", DOWNLOAD),
    (b"<?xml", "is an XML document, not weights", DOWNLOAD),
    (b"\x89hdf", "is an HDF5 file of Keras", PYTORCH),
    (b"\x93numpy", "is a NumPy array, not weights by name", PYTORCH),
    (b"\x1f\x8b", "is compressed", "unpack it with gunzip"),
    (b"\xfd7zxz", "is compressed", "unpack it with unxz"),
    (b"\x89png", "is an image", "give the path of the weights"),
    (b"\xff\xd8\xff", "is an image", "give the path of the weights"),
)
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # start of files of torch.save before version 1.6


def check_format(path: Path, parameter: str) -> None:
    """Check the first bytes of a file.

    Raises:
        ConfigError: it is no file of torch.save or safetensors.
    """
    # first: the length in front of safetensors can look like another format
    if not is_safetensors(path) and (foreign := foreign_format(path)):
        raise ConfigError(parameter, path, foreign[0], hint=foreign[1])


def foreign_format(path: Path) -> tuple[str, str] | None:
    """Return what a file is instead of weights, and a hint; None if it may be weights."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "is empty", DOWNLOAD
    for signature, rule, hint in SIGNATURES:
        if start.lstrip().lower().startswith(signature):
            return rule, hint
    if start.isascii() and b"\0" not in start and start[:1].decode().isprintable():
        return "is a text file", "give the path of the weights"
    if start[257:262] == b"ustar":
        return "is a tar archive", "unpack it"
    if start.startswith(b"PK"):
        if not zipfile.is_zipfile(path):
            return "is incomplete", DOWNLOAD
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if all(name.endswith(".npy") for name in names):
                return "is an archive of NumPy arrays, as of JAX", PYTORCH
            if any(name.endswith("constants.pkl") for name in names):
                return "is a program of TorchScript, which could run code", "save its state_dict"
            if not any(name.endswith("data.pkl") for name in names):
                return "is a zip archive, not a file of torch.save", "unpack it"
    elif start.startswith(b"\x80") and not start.startswith(LEGACY):
        return "is a pickle of Python objects, which could run code", "save the weights with torch.save"
    return None


def is_safetensors(path: Path) -> bool:
    """Return whether a file starts as safetensors do: with the length of a header, then the JSON header."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < 2**27
