"""Explain an error of Hydra or OmegaConf in one line: a mistake in an argument of the command line."""

import itertools
import re
import shlex
from collections.abc import Sequence

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import (
    GrammarParseError,
    InterpolationResolutionError,
    OmegaConfBaseException,
    ValidationError,
)

from cim_lightning.config.arguments import quote, quote_items, unquote
from cim_lightning.config.choices import choices_of, default_choice, suggest_choice
from cim_lightning.config.compose import CONF, chosen_config
from cim_lightning.config.setting_paths import no_default
from cim_lightning.config.suggestions import suggest_setting

MISSING_VALUE = re.compile(r"[Mm]issing (?:mandatory )?value: (\S+)")
PLUGINS = {"joblib", "submitit_local", "submitit_slurm", "optuna", "ray"}  # of our optional dependencies


def explain_hydra_error(error: BaseException, command: str, arguments: Sequence[str]) -> str | None:
    """Return one line about an error of Hydra or OmegaConf; None for any other error.

    Args:
        error: the exception.
        command: such as "pretrain".
        arguments: of the command line, to quote from.
    """
    text = str(error)
    if isinstance(error, ValueError) and text.startswith("Config group override must be"):
        return _explain_group_value(arguments, command) or text.splitlines()[0]
    if isinstance(error, ValueError) and text.startswith("No trials are completed yet"):  # of optuna
        return "hydra/sweeper=optuna: no trial finished; failure.json in their folders has the reasons"
    if isinstance(error, MissingConfigException):
        return _explain_choice(text, command)
    if isinstance(error, OverrideParseException):
        return _explain_override(error, arguments)
    if found := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{found[1]}: several values need a sweep; try cim-{command} -m {found[1]}"
    if isinstance(error, (GrammarParseError, InterpolationResolutionError, ValidationError)):
        return _explain_value(text, arguments)
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _explain_key(text, command, arguments)
    return None


def last_override(key: str, arguments: Sequence[str]) -> str:
    """Return the last override of a key on the command line; the key alone if there is none."""
    starts = (f"{key}=", f"{key}.")
    return next((a for a in reversed(arguments) if f"{a.lstrip('+~')}=".startswith(starts)), key)


def _explain_override(error: OverrideParseException, arguments: Sequence[str]) -> str:
    """Return the line about an argument that Hydra's grammar rejects, with the quotes that make it text."""
    text = str(error)
    reason = text.splitlines()[1 if text.startswith("Error parsing") else 0].split(": ")[0]
    if reason.endswith("Exception"):
        reason = "it has special characters"
    key, equals, value = str(error.override).partition("=")
    is_list = value.startswith("[") and value.endswith("]")
    quoted = shlex.quote(f"{key}={quote_items(value) if is_list else quote(value)}")
    hint = f"; to set text, quote {'each item' if is_list else 'it'}: {quoted}" if equals else ""
    position = [*arguments].index(key) if not equals and key in arguments else 0
    if position and "=" in (before := arguments[position - 1]):
        setting, _, start = before.partition("=")
        words = itertools.takewhile(lambda word: "=" not in word, arguments[position:])
        whole = shlex.quote(f"{setting}={' '.join([unquote(start), *words])}")
        hint = f"; quote a value with spaces: {whole}"
    return f"{error.override}: cannot be parsed ({reason}); an override is key=value{hint}"


def _explain_choice(text: str, command: str) -> str:
    """Return the line about an option that a config group does not have."""
    found = re.search(r"(?:find|load) '([^']+)'", text)
    if not found:
        return text.splitlines()[0]
    group, _, choice = found[1].rpartition("/")
    if group.startswith("hydra/") and choice in PLUGINS:
        extra = "ray" if choice == "ray" else "sweeps"
        return f"{group}={choice}: is not installed; try pip install 'cim-lightning[{extra}]'"
    top, _, folder = group.partition("/")
    if folder and top != "hydra" and not (CONF / group).is_dir():  # as experiment=ablaton/rotation
        group, choice = top, f"{folder}/{choice}"
    others = re.findall(r"^\t([^_\s]\S*)$", text, re.MULTILINE)  # those of --config-dir, too
    hint = suggest_choice(group, choice, default_choice(command, group), others)
    return f"{group}={choice}: no such {group}; {hint}"


def _explain_group_value(arguments: Sequence[str], command: str) -> str | None:
    """Return the line about a config group that got null or a number."""
    for argument in arguments:
        group, _, value = argument.partition("=")
        if (CONF / group).is_dir() and not isinstance(yaml.safe_load(value), (str, list)):
            first = default_choice(command, group) or choices_of(group)[0]
            return f"{argument}: must be an option of {group}, or [] for none; try {group}={first}"
    return None


def _explain_value(text: str, arguments: Sequence[str]) -> str:
    """Return the line about a value with a reference that has no value, or of another type than Hydra's."""
    if found := MISSING_VALUE.search(text):
        return no_default(found[1])
    reason, _, rest = text.partition("full_key: ")
    key = rest.partition("\n")[0]
    override = last_override({"hydra.run.dir": "output_dir"}.get(key, key), arguments)
    with_reference = [argument for argument in arguments if "${" in argument]
    if "=" not in override and with_reference:
        override = with_reference[-1]
    _, is_resolver, cause = reason.partition("while resolving interpolation: ")
    reason = " ".join((cause if is_resolver else reason).split())
    return f"{override}: {reason}" if override else reason


def _explain_key(text: str, command: str, arguments: Sequence[str]) -> str:
    """Return the line about a key that is missing, set twice or unknown."""
    if found := MISSING_VALUE.search(text):
        return no_default(found[1])
    first = text.splitlines()[0].rstrip(".")
    if found := re.search(r"(?:Multiple values for |item is already at ')([^\s']+?)(?:\. |')", first):
        override = last_override(found[1], arguments)
        return f"{override}: it exists already; try {override.lstrip('+')}"
    key = re.search(r"(?:override|config\.) '([^'=]+)'", first) or re.search(r"full_key: (\S+)", text)
    if key is None:
        return first
    override = last_override(key[1], arguments)
    hint = suggest_setting(override, command, chosen_config(command, arguments))
    return f"{override}: no such setting or group; {hint}"
