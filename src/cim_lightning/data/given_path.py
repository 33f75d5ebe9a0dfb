"""A path that the user gives, for errors that name the setting."""

from collections.abc import Sequence
from dataclasses import dataclass

from cim_lightning.data.files import existing_folder
from cim_lightning.errors import ConfigError


@dataclass(frozen=True)
class GivenPath:
    """A path and the parameter that gives it.

    Args:
        parameter: such as "root".
        value: of the parameter: the path, a relative path, or several of them.
        path: the path that is meant.
    """

    parameter: str
    value: str | Sequence[str]
    path: str

    def error(self, rule: str, hint: str) -> ConfigError:
        """Return an error about the path, which names the path if it is not the value."""
        where = "" if self.value == self.path else f"{self.path} "
        return ConfigError(self.parameter, self.value, where + rule, hint=hint)

    def existing_folder(self) -> str:
        """Return the absolute path of the folder.

        Raises:
            ConfigError: there is no such folder.
        """
        try:
            return existing_folder(self.path, self.parameter)
        except ConfigError as error:
            if self.value == self.path:
                raise
            raise self.error(error.rule, str(error).partition("; ")[2]) from error
