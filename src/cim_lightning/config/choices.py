"""Choices of the configuration groups: which exist, which one is meant, and which one has a setting."""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cim_lightning.close_names import closest
from cim_lightning.config.compose import CONF
from cim_lightning.config.synonyms import choice_for

CUTOFF = 0.6  # similarity of a name and the choice that it means


def is_group(path: str) -> bool:
    return bool(path) and (CONF / path).is_dir()


def choices_of(group: str) -> list[str]:
    """Return the choices of a group, also recipes in its folders, such as experiment=ablation/scale."""
    folder = CONF / group
    files = [*folder.glob("[!_]*.yaml"), *(f for f in folder.rglob("*/[!_]*.yaml") if _is_recipe(f))]
    return sorted({str(file.relative_to(folder).with_suffix("")) for file in files})


def _is_recipe(file: Path) -> bool:
    """Return whether a file sets several groups; any other file in a folder belongs to a group of its own."""
    return file.read_text("utf-8").startswith("# @package _global_")


def default_choice(command: str, group: str) -> str:
    """Return the choice of a group in the defaults list of a command; "" if it has none, or a list."""
    file: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{command}.yaml"))
    found = [entry[group] for entry in file["defaults"] if isinstance(entry, dict) and group in entry]
    return found[0] if found and isinstance(found[0], str) else ""


def closest_choice(group: str, name: str, prefer: str = "", others: Iterable[str] = ()) -> str | None:
    """Return the choice that a name means; None if no choice is close.

    Args:
        group: such as "backbone".
        name: as given.
        prefer: the choice that wins against equally similar ones.
        others: choices besides those of conf/.
    """
    choices = sorted({*choices_of(group), *others}, key=lambda choice: (choice != prefer, choice))
    return choice_for(group, name) or closest(name, choices, CUTOFF)


def suggest_choice(group: str, name: str, prefer: str = "", others: Iterable[str] = ()) -> str:
    """Return a hint for a choice that a group does not have; the arguments are those of closest_choice."""
    if found := closest_choice(group, name, prefer, others):
        return f"did you mean {group}={found}?"
    return f"choose from {', '.join(sorted({*choices_of(group), *others})) or '(nothing)'}"


def option_with(group: str, setting: str) -> str | None:
    """Return an override with which a group has a setting, such as "method=mae" for a mask ratio.

    Among several choices with the setting, the one with the fewest settings is returned. Settings that may
    stay null are not counted.
    """
    sizes = {
        choice: sum(value is not None for value in settings.values())
        for choice, settings in settings_of(group).items()
        if setting in settings
    }
    if not sizes:
        return None
    methods = {choice: _method_with(group, choice) for choice in sizes}
    choice = min(sizes, key=lambda choice: (methods[choice] is None, sizes[choice], choice))
    return f"method={methods[choice]}" if methods[choice] else f"{group}={choice}"


@functools.cache
def settings_of(group: str) -> dict[str, dict[str, Any]]:
    """Return the settings of each choice of a group, by name."""
    found = {}
    for file in sorted((CONF / group).glob("[!_]*.yaml")) if is_group(group) else ():
        settings: Any = OmegaConf.to_container(OmegaConf.load(file))
        found[file.stem] = settings.get(group, settings)  # a file of settings for several groups
    return found


@functools.cache
def _method_with(group: str, choice: str) -> str | None:
    """Return the first method that sets a group to a choice, such as its cropping; None if no method does."""
    for method in choices_of("method"):
        settings: Any = OmegaConf.to_container(OmegaConf.load(CONF / "method" / f"{method}.yaml"))
        if {f"override /{group}": choice} in settings.get("defaults", ()):
            return method
    return None
