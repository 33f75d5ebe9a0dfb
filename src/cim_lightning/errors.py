"""The two ways in which an input can be wrong."""

MISTAKE = 2  # exit code of a door


class SettingError(ValueError):
    """A setting that cannot work; the doors print its one line and exit, without a traceback.

    Write it as: setting, value received, rule, nearest valid choice.
    """


class BadImageError(ValueError):
    """An image that cannot be decoded; whoever reads images reports it and goes on with another."""
