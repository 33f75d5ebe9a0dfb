"""The two kinds of invalid input: a setting, and an image."""

from typing import Any

EXIT_USAGE = 2  # exit code of a command that was used wrongly
_UNSET: Any = object()


class ConfigError(ValueError):
    """A setting that cannot work. Commands print it in one line, without a traceback.

    Code below `cli/` and `config/` names its own parameter only; the command adds the path of the setting.

    Args:
        parameter: name of the parameter; the whole message if nothing else is given.
        value: the value received.
        rule: what the value must be.
        suggest: a value that works.
        hint: what to do, where a value alone does not say it.
    """

    def __init__(
        self, parameter: str, value: Any = _UNSET, rule: str = "", *, suggest: Any = _UNSET, hint: str = ""
    ):
        self.parameter = parameter if value is not _UNSET else ""
        self.value, self.rule, self.suggest, self.hint = value, rule, suggest, hint
        self.group = ""  # path of the configuration group with the parameter, if a caller knows it
        super().__init__(self.line(parameter))

    def line(self, name: str) -> str:
        """The message with the parameter called `name`, such as its path in the configuration."""
        if self.value is _UNSET:
            return name
        hint = self.hint or ("" if self.suggest is _UNSET else f"try {name}={format_value(self.suggest)}")
        return f"{name}={format_value(self.value)}: {self.rule}" + (f"; {hint}" if hint else "")


class BadImageError(ValueError):
    """An image that cannot be decoded. The data set reports it and uses another image."""


def format_value(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {format_value(item)}' for key, item in value.items())}}}"
    return str(value)
