"""Select the tensors of a backbone from a checkpoint: by layout, prefix and kind (averaged or not)."""

import re
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from cim_lightning.checks import check_one_of
from cim_lightning.errors import ConfigError
from cim_lightning.weights.layouts.layout import Layout, State
from cim_lightning.weights.layouts.table import LAYOUTS, RUN
from cim_lightning.weights.names import AVERAGED, below, best_prefix, count_prefixes, flatten

AUTO = "auto"
EVALUATED = "eval_backbone"  # entry of a run's checkpoint: the prefix of the backbone that is evaluated
SHOWN = 5  # names in a message


class Selection(NamedTuple):
    """The backbone in a checkpoint. `tensors` may have heads and decoders."""

    tensors: State
    title: str  # of the layout
    notes: list[str]


class _Candidate(NamedTuple):
    layout: Layout
    tensors: State
    counts: Counter[str]  # of the model's names, by prefix

    @property
    def count(self) -> int:
        return max(self.counts.values(), default=0)


def select(checkpoint: Mapping[str, Any], path: Path, model: nn.Module, layout: str) -> Selection:
    """Return the tensors of a checkpoint that are those of a model, under timm's names.

    The prefix with most of the model's names is taken. Averaged weights are preferred to others with as many.

    Args:
        checkpoint: nested dictionaries.
        path: of the file, for messages.
        model: of timm.
        layout: key of a layout, a prefix that ends with ".", or "auto".

    Raises:
        ConfigError: there is no such layout, or the checkpoint has none of the model's tensors in it.
    """
    tensors, expected = flatten(checkpoint), model.state_dict().keys()
    detected = _detect(checkpoint, tensors)
    candidates, prefixes = _options(checkpoint, detected, layout)
    found = [_candidate(option, tensors, expected, prefixes) for option in candidates]
    best = max(found, key=lambda candidate: candidate.count)  # the first of several
    title = detected[0].title if layout == AUTO or layout.endswith(".") else best.layout.title
    if best.layout.title != title and best.tensors is not tensors:
        title = f"{title}, {best.layout.title}"
    if layout == AUTO and best.count < len(expected):
        converted, prefix = _convert_by_timm(tensors, model, best.counts)
        if len(converted.keys() & expected) > best.count:
            notes = ["names converted by timm", *_describe_prefix(prefix, None, forced=False)]
            return Selection(converted, title, notes)
    if not best.count:
        raise _nothing_found(path, layout, tensors, model)
    prefix, other = best_prefix(best.counts)
    notes = _describe_prefix(prefix, other, forced=prefixes != ".*")
    return Selection(below(best.tensors, prefix), title, notes)


def is_run(checkpoint: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint is of a `Method`: of `cim-pretrain`, or of another Lightning Trainer."""
    return EVALUATED in checkpoint or run_settings(checkpoint) is not None


def run_settings(checkpoint: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the settings of a run of `cim-pretrain` from its checkpoint; None for other checkpoints.

    Those of other programs may have settings of the same names, such as the text `method` of solo-learn.
    """
    settings = checkpoint.get("hyper_parameters")
    if not isinstance(settings, dict):
        return None
    return settings if all(isinstance(settings.get(key), dict) for key in ("method", "data")) else None


def _detect(checkpoint: Mapping[str, Any], tensors: State) -> list[Layout]:
    """Return the layouts that a checkpoint may have; the last is timm's."""
    if is_run(checkpoint):
        return [RUN]
    names = {*tensors, *checkpoint}
    return [layout for layout in LAYOUTS if layout is not RUN and layout.is_of(names)]


def _options(checkpoint: Mapping[str, Any], detected: list[Layout], layout: str) -> tuple[list[Layout], str]:
    """Return the layouts to try, and a pattern of prefixes."""
    if layout.endswith("."):
        return detected, f"{re.escape(layout)}.*"
    if layout != AUTO:
        check_one_of("weights_layout", layout, [AUTO, *(known.key for known in LAYOUTS)])
        named = next(known for known in LAYOUTS if known.key == layout)
        return [named], named.prefixes
    if detected == [RUN]:
        return detected, re.escape(f"state_dict.{checkpoint.get(EVALUATED, 'backbone.')}") + ".*"
    return detected, ".*"


def _candidate(layout: Layout, tensors: State, expected: Collection[str], prefixes: str) -> _Candidate:
    converted = layout.convert(tensors)
    counts = count_prefixes(converted, expected)
    allowed = {prefix: count for prefix, count in counts.items() if re.fullmatch(prefixes, prefix)}
    return _Candidate(layout, converted, Counter(allowed))


def _convert_by_timm(tensors: State, model: nn.Module, prefixes: Iterable[str]) -> tuple[State, str]:
    """Return the tensors below a prefix under the names of timm's converter, and the prefix.

    The converters read the original names of many architectures, such as Swin, ConvNeXt and CLIP.
    """
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    best: tuple[State, str] = ({}, "")
    if convert is None:
        return best
    expected = model.state_dict().keys()
    for prefix in sorted({"", "state_dict.", "model.", *prefixes}, key=lambda p: (not AVERAGED.search(p), p)):
        try:
            converted = convert(below(tensors, prefix), model)
        except Exception:  # weights that it does not know can raise anything
            continue
        best = max(best, (converted, prefix), key=lambda found: len(found[0].keys() & expected))
    return best


def _describe_prefix(prefix: str, other: str | None, forced: bool) -> list[str]:
    shown = [part.removesuffix(".") or "the top level" for part in (prefix, other or "")]
    if AVERAGED.search(prefix):
        return [f"EMA weights ({shown[0]})" + (f", not {shown[1]}" if other is not None else "")]
    if other is not None:
        return [f"{shown[0]}, not {shown[1]}"]
    return [shown[0]] if forced and prefix else []


def _nothing_found(path: Path, layout: str, tensors: State, model: nn.Module) -> ConfigError:
    names = ", ".join([*tensors][:SHOWN]) + (", ..." if len(tensors) > SHOWN else "")
    if layout != AUTO:
        rule = f"{path.name} has none of the model's tensors in this layout (its names: {names or 'none'})"
        return ConfigError("weights_layout", layout, rule, suggest=AUTO)
    if not tensors:
        return ConfigError("weights", path, "has no tensors", hint="give the path of another file")
    rule = f"has none of the tensors of {type(model).__name__}, but {names}"
    return ConfigError("weights", path, rule, hint="try the architecture of these weights")
