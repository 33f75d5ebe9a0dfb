"""User errors: an invalid setting, and an image that cannot be decoded."""

from typing import Any

EXIT_USAGE = 2  # exit code after an invalid command line or setting
_UNSET: Any = object()


class ConfigError(ValueError):
    """An invalid setting. Commands print the message in one line, without a traceback.

    The code that raises it knows its own parameter only; the command adds the path of the setting.

    Args:
        parameter: name of the parameter, or the whole message if it is the only argument.
        value: the invalid value, if there is one.
        rule: the rule that the value breaks.
        suggest: a valid value.
        hint: advice instead of the valid value.
    """

    def __init__(
        self, parameter: str, value: Any = _UNSET, rule: str = "", *, suggest: Any = _UNSET, hint: str = ""
    ):
        self.parameter, self.has_value = parameter if rule else "", value is not _UNSET
        self.value, self.rule, self.suggest, self.hint = value, rule, suggest, hint
        self.group = ""  # path of the parameter's configuration group, such as evaluation.knn, if known
        given = f"{parameter}={format_value(value)}" if self.has_value else parameter
        hint = hint or ("" if suggest is _UNSET else f"try {parameter}={format_value(suggest)}")
        super().__init__((f"{given}: {rule}" if rule else given) + (f"; {hint}" if hint else ""))


class LoadingError(ConfigError):
    """Images that cannot be loaded because of the machine: a read that does not end, or a dead worker.

    A setting may help. Commands print the message in one line and exit with 1.
    """


class RunError(RuntimeError):
    """A run cannot continue, for a reason outside of its settings, such as a full disk.

    Commands print the message in one line, without a traceback, and exit with 1.
    """


class EvaluationError(RuntimeError):
    """Evaluators that failed. The others have results. Commands print the message in one line."""


class BadImageError(ValueError):
    """An image that cannot be decoded. The data set reports it and uses another image.

    Args:
        reason: of the error, without the name of the image.
        name: of the image, quoted if it is a path.
    """

    def __init__(self, reason: str, name: str = ""):
        super().__init__(f"{name}: {reason}" if name else reason)
        self.reason, self.name = reason, name


class WrongFormatError(BadImageError):
    """An intact image that cannot be converted to the format of the data set.

    Args:
        reason: of the error, without the name of the image.
        channels: of the image, if their number is the reason.
        name: of the image.
    """

    def __init__(self, reason: str, channels: int | None = None, name: str = ""):
        super().__init__(reason, name)
        self.channels = channels


def format_value(value: Any) -> str:
    """Return a value in the syntax of the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {format_value(item)}' for key, item in value.items())}}}"
    return str(value)
