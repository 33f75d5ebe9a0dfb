"""Names of the tensors in a checkpoint: flattening, and the search for the backbone among them."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import Tensor

from cim_lightning.weights.pickle_file import Placeholder

# Parts that DDP, FSDP, activation checkpointing and torch.compile add to names.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}

# Parts of the names of averaged weights. `encoder_k` is MoCo's.
AVERAGED = re.compile(r"(?:^|[._])(?:ema|averaged|teacher|target|momentum|encoder_k)(?:[._]|$)")


def flatten(checkpoint: Mapping[Any, Any], prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of nested dictionaries and modules, by name such as "teacher.backbone.cls_token".

    Parts of names that wrappers such as DDP add are removed.
    """
    tensors = {}
    for key, value in checkpoint.items():
        if not isinstance(key, str):
            continue  # the state of an optimizer
        if isinstance(value, Placeholder):
            value = _module_content(value)
        if isinstance(value, Mapping):
            tensors |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, Tensor):
            tensors[".".join(part for part in f"{prefix}{key}".split(".") if part not in WRAPPERS)] = (
                value.detach()
            )
    return tensors


def _module_content(value: Placeholder) -> Any:
    """Return the tensors and submodules of a module that was saved as a whole; otherwise, the value."""
    if not isinstance(value.state, Mapping) or "_modules" not in value.state:
        return value
    return {
        name: item
        for key in ("_parameters", "_buffers", "_modules")
        for name, item in value.state[key].items()
    }


def count_prefixes(names: Iterable[str], expected: Collection[str]) -> Counter[str]:
    """Return for each prefix how many expected names the file has under it."""
    counts: Counter[str] = Counter()
    for name in names:
        start = 0
        while start >= 0:
            if name[start:] in expected:
                counts[name[:start]] += 1
            start = name.find(".", start) + 1 or -1
    return counts


def best_prefix(counts: Counter[str]) -> tuple[str, str | None]:
    """Return the prefix with most expected names, and the best other one with as many (None: no other).

    Averaged weights are preferred to others, then the first in the file.
    """
    most = max(counts.values())
    equal = [prefix for prefix, count in counts.items() if count == most]
    equal.sort(key=lambda prefix: not AVERAGED.search(prefix))
    return equal[0], equal[1] if len(equal) > 1 else None


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names have a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
