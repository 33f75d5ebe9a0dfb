"""Fingerprints of settings and weights: a cached result is used only if they are the same."""

import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


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


def weights_hash(module: nn.Module) -> str:
    """Return a hash of all parameters and buffers of a module."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
