"""Names that other projects have for our settings and choices, from synonyms.yaml."""

import functools
from pathlib import Path
from typing import Any

import yaml

SWITCHES = {
    "true": "true",
    "1": "true",
    "yes": "true",
    "on": "true",
    "false": "false",
    "0": "false",
    "no": "false",
}


def settings_for(command: str) -> dict[str, list[str]]:
    """Return the settings that each other name means for a command, the preferred one first."""
    found: dict[str, list[str]] = {}
    for setting, names in _table()["settings"][command].items():
        for name in names.split():
            found.setdefault(name, []).append(setting)
    return found


def translate(name: str, value: str) -> str | None:
    """Return the override that a name and value of another project mean; None if only the name differs."""
    index = value.removeprefix("cuda:")
    if name in ("gpu", "gpu_id", "gpu_ids", "device") and index.isdigit():
        return f"trainer.devices=[{index}]"
    for names, values in _table()["values"].items():
        if name in names.split():
            return values.get(value.lower()) or values.get(SWITCHES.get(value.lower(), ""))
    return None


def reason_without(key: str) -> str:
    """Return why a name of other projects has no setting here; "" for any other name."""
    name = key.lstrip("+~").rpartition(".")[2].lower().replace("-", "_")
    return next((reason for reason, names in _table()["absent"].items() if name in names.split()), "")


def choice_for(group: str, name: str) -> str | None:
    """Return the choice of a group that has this name in other projects."""
    name = name.lower().replace("-", "_")
    choices = _table()["choices"].get(group, {})
    return next((choice for choice, names in choices.items() if name in names.split()), None)


@functools.cache
def _table() -> Any:
    return yaml.safe_load(Path(__file__).with_name("synonyms.yaml").read_text("utf-8"))
