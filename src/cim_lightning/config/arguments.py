"""Arguments of the command line in Hydra's grammar: paths with special characters are quoted as text."""

import os
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString, Sweep
from hydra.errors import HydraException
from omegaconf import OmegaConf

from cim_lightning.config.compose import CONF, resolver_type
from cim_lightning.config.flags import FLAGS_WITH_VALUE, check_style
from cim_lightning.errors import ConfigError

OVERRIDE = re.compile(r"(\+{0,2}[A-Za-z_][\w./@:-]*)=(.*)", re.DOTALL)
STRUCTURE = re.compile(r"[\[{'\"]|\w+\(")  # start of a list, a dict, quoted text or a function call


def expand_home(argument: str) -> str:
    """Return an argument with the ~ of `key=~/images` expanded.

    Shells do not expand it, and Hydra's grammar rejects it.
    """
    return argument.replace("=~/", f"={os.path.expanduser('~')}/", 1)


def quote_values(arguments: Sequence[str], command: str) -> list[str]:
    """Return the arguments of a command with every value quoted that Hydra would not read as meant.

    A value is quoted if the grammar rejects it, as `/my/pictures (1)`, or if it names an existing file that
    the grammar reads as something else, as the list `[1]`. Numbers, true and null stay unquoted, because most
    settings need them; `validate.check` turns numbers into text where the setting is text.

    Args:
        arguments: without the name of the program.
        command: such as "pretrain".

    Raises:
        ConfigError: a setting is not written as `key=value`, a value is empty or not UTF-8, or the name of an
            existing file contains "${", which starts a reference to another setting.
    """
    check_style(arguments, command)
    parser, text_settings = OverridesParser.create(), _text_settings(command)
    is_value = [i > 0 and arguments[i - 1] in FLAGS_WITH_VALUE for i in range(len(arguments))]
    return [
        argument if is_value[i] else _quote_value(expand_home(argument), parser, text_settings)
        for i, argument in enumerate(arguments)
    ]


def quote(text: str) -> str:
    """Return text in the double quotes of Hydra's grammar."""
    return QuotedString(text=text, quote=Quote.double).with_quotes()


def unquote(value: str) -> str:
    """Return the text of a quoted value; any other value unchanged."""
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return str(OverridesParser.create().parse_override(f"k={value}").value()) if is_quoted else value


def _text_settings(command: str) -> set[str]:
    """Return the settings outside all groups that are text, such as output_dir."""
    file: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{command}.yaml"))
    return {str(key) for key, v in file.items() if isinstance(v, str) and resolver_type(v) in (None, str)}


def _quote_value(argument: str, parser: OverridesParser, text_settings: set[str]) -> str:
    if not (found := OVERRIDE.fullmatch(argument)):
        return argument
    key, value = found.groups()
    if not value:
        rule, hint = "is empty", f"is a shell variable unset? For empty text: '{key}=\"\"'"
        raise ConfigError(key.lstrip("+"), value, rule, hint=hint)
    is_file = os.path.exists(value)
    if value != value.encode(errors="ignore").decode():
        shown, rule = value.encode(errors="backslashreplace").decode(), "is not UTF-8"
        raise ConfigError(key.lstrip("+"), shown, rule, hint="rename it, or use a symbolic link")
    if is_file and "${" in value:
        rule, hint = "its name contains ${, the start of a reference", "rename it, or use a symbolic link"
        raise ConfigError(key.lstrip("+"), value, rule, hint=hint)
    try:
        parsed = parser.parse_override(argument).value()
    except HydraException:
        parsed = None
        if not is_file and (parts := _paths(value)):
            return f"{key}={parts}"
        if not is_file and re.fullmatch('".*"', value, re.DOTALL):  # quoted text with unescaped quotes
            return f"{key}={quote(value[1:-1])}"
        is_text = is_file or not STRUCTURE.match(value)
    else:
        is_other = isinstance(parsed, str | list | dict | Sweep) and parsed != value
        is_text = is_file and is_other
        if key in text_settings:
            is_text |= isinstance(parsed, int | float | list | dict)
    return f"{key}={quote(value)}" if is_text else argument


def quote_items(value: str) -> str:
    """Return a list such as `[/a, /b (1)]` with every item quoted.

    A comma is a part of an item, instead of the end of it, if a path with it exists.
    """
    return f"[{','.join(map(quote, _items(value[1:-1])))}]"


def _items(text: str) -> list[str]:
    """Return the items of a list or sweep, with the ~ of home folders expanded."""
    parts, items = text.split(","), []
    while parts:
        candidates = [os.path.expanduser(",".join(parts[:n]).strip()) for n in range(1, len(parts) + 1)]
        num_parts = next((n for n in range(len(parts), 0, -1) if os.path.exists(candidates[n - 1])), 1)
        items.append(candidates[num_parts - 1])
        parts = parts[num_parts:]
    return items


def _paths(value: str) -> str | None:
    """Return the values of a sweep or list, each quoted, if all of them are paths; else None."""
    is_list = value.startswith("[") and value.endswith("]")
    items = _items(value[1:-1] if is_list else value)
    is_path = [os.path.exists(item) or (is_list and "/" in item) for item in items]
    if not all(is_path) or (len(items) == 1 and not is_list):
        return None
    return quote_items(value) if is_list else ",".join(map(quote, items))
