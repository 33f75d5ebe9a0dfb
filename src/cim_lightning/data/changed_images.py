"""Changes of a data set between two processes of a run."""

import zlib
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from cim_lightning.checks import check_one_of
from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.image_keys import image_keys
from cim_lightning.data.source import Splits
from cim_lightning.errors import ConfigError

REFUSE, ALLOW = "refuse", "allow"
SPLITS = {"train": "training", "val": "validation"}
MAX_NAMES = 3  # in a message


def check_policy(changed: str) -> None:
    """Check what to do with a change: REFUSE or ALLOW.

    Raises:
        ConfigError: it is neither.
    """
    check_one_of("changed", changed, [REFUSE, ALLOW])


def record(splits: Splits) -> dict[str, dict[str, Any]]:
    """Return what a checkpoint stores of the training and validation images, by split.

    images: their number.
    fingerprint: hash of their keys and of the source's fingerprint; None if the source has none.
    names: their names, compressed; of a source without files, no bytes.
    """
    return {split: _record(getattr(splits, split)) for split in SPLITS}


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what changed between two records, in a phrase per split."""
    phrases = {split: _describe_change(before[split], now[split]) for split in SPLITS}
    return [f"other {SPLITS[split]} images ({phrase})" for split, phrase in phrases.items() if phrase]


def check_changes(changes: Sequence[str], policy: str, source_kwargs: Mapping[str, Any]) -> None:
    """Check that the images may have changed.

    Args:
        changes: see describe_changes.
        policy: REFUSE or ALLOW.
        source_kwargs: arguments of the source, such as `root`, for the error.

    Raises:
        ConfigError: there is a change, and the policy is REFUSE.
    """
    if changes and policy == REFUSE:
        name = next((name for name in ("root", "name") if name in source_kwargs), "source")
        rule = f"has {changes[0]} than the checkpoint"
        hint = "restore the images, or try changed=allow"
        raise ConfigError(name, source_kwargs.get(name), rule, hint=hint)


def _record(source: Any) -> dict[str, Any]:
    fingerprint, files = getattr(source, "fingerprint", None), getattr(source, "files", None)
    if fingerprint is not None:
        content = image_keys(source).astype("<u8").tobytes() + fingerprint.encode()
        fingerprint = blake2b(content, digest_size=16).hexdigest()
    names = b"\0".join(files.whole_names()) if isinstance(files, FileIndex) else b""
    compressed = np.frombuffer(bytearray(zlib.compress(names, 1)), np.uint8)
    return {"images": len(source), "fingerprint": fingerprint, "names": torch.from_numpy(compressed)}


def _describe_change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return what changed in a split; "" if nothing did, as far as the fingerprints say it."""
    same_content = before["fingerprint"] == now["fingerprint"] or not (
        before["fingerprint"] and now["fingerprint"]
    )
    if same_content and before["images"] == now["images"]:
        return ""
    old, new = _names(before["names"]), _names(now["names"])
    parts = [f"{before['images']:,} then, {now['images']:,} now"]
    if old and old == new:
        parts.append("the same names with other labels or contents, or in another order")
    elif old and new:
        changes = {"added": new - old, "removed": old - new}
        parts += [f"{what}: {_examples(names)}" for what, names in changes.items() if names]
    return "; ".join(parts)


def _names(compressed: UInt8[Tensor, " n"]) -> set[bytes]:
    return set(zlib.decompress(compressed.numpy().tobytes()).split(b"\0")) - {b""}


def _examples(names: set[bytes]) -> str:
    shown = [name.decode("utf-8", "backslashreplace") for name in sorted(names)[:MAX_NAMES]]
    return ", ".join([*shown, *(["..."] if len(names) > MAX_NAMES else [])])
