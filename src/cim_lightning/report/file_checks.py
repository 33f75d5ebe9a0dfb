"""Checks of the files of a run, which may come from another version, or from someone else."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from cim_lightning.metric_registry import SECTIONS

Check = Callable[[Any], bool]
SHOWN = 40  # characters of an invalid value


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_text, value))


def is_number(value: Any) -> bool:
    """Return whether a value is a number, possibly infinite or NaN; an integer that no float has is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) <= sys.float_info.max
    return isinstance(value, float)


def is_cost(value: Any) -> bool:
    return is_number(value) and 0 <= value < float("inf")


def is_metric(value: Any) -> bool:
    """Return whether a value has the fields of a Metric that reports use."""
    fields = {"name": "", "title": "", "short": "", "unit": "", "digits": 0, "places": [], "section": None}
    if not isinstance(value, dict) or not {"name", "title"} <= value.keys():
        return False
    fields |= value
    return (
        all(is_text(fields[key]) for key in ("name", "title", "short", "unit"))
        and type(fields["digits"]) is int
        and 0 <= fields["digits"] <= 20
        and are_texts(fields["places"])
        and fields["section"] in (*SECTIONS, None)
        and fields.get("higher_is_better") in (True, False, None)
        and (fields.get("baseline") is None or is_text(fields["baseline"]) or is_number(fields["baseline"]))
    )


def _is_change(value: Any) -> bool:
    return isinstance(value, dict) and {"step", "change"} <= value.keys()


INFO: dict[str, Check] = {  # of run.json; all are required
    "command": is_text,
    "overrides": are_texts,
    "choices": lambda value: isinstance(value, dict) and is_text(value.get("method")),
    "cwd": is_text,
    "config_dirs": are_texts,
    "sweep": lambda value: isinstance(value, bool),
    "swept": are_texts,
}
COSTS: dict[str, Check] = dict.fromkeys(
    (
        "steps",
        "images_seen",
        "train_images",
        "images_per_step",
        "images_per_s",
        "seconds",
        "peak_memory_bytes",
        "forward_flops_per_image",
        "backward_flops_per_image",
    ),
    is_cost,
) | {"device": is_text}
OPTIONAL: dict[str, Check] = {  # of run.json
    "setup": lambda value: isinstance(value, dict),
    "metrics": lambda value: isinstance(value, list) and all(map(is_metric, value)),
    "image_changes": lambda value: isinstance(value, list) and all(map(_is_change, value)),
}
FAILURE: dict[str, Check] = {"overrides": are_texts, "swept": are_texts, "reason": is_text}


def check_values(file: str, content: Mapping[str, Any], checks: Mapping[str, Check], required: bool) -> None:
    """Check the values of some keys.

    Args:
        file: name of the file, for the error.
        content: of the file.
        checks: by key.
        required: whether the file must have every key.

    Raises:
        ValueError: a value is of the wrong kind, or a required key is missing.
    """
    for key, check in checks.items():
        if key in content and not check(content[key]):
            raise ValueError(f"{file}: {key} has the invalid value {content[key]!r:.{SHOWN}}")
        if required and key not in content:
            raise ValueError(f"{file} is incomplete: it has no {key}")


def check_numbers(file: str, content: Mapping[str, Any]) -> None:
    """Check that metrics, which have a slash in their names, are numbers, and that costs are.

    Raises:
        ValueError: one is not.
    """
    check_values(file, content, COSTS, required=False)
    check_values(file, content, {key: is_number for key in content if "/" in key}, required=False)
