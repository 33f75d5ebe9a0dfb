"""Settings of evaluators that a command does not run."""

from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig

from cim_lightning.errors import ConfigError


def drop_unused(evaluators: DictConfig, overrides: Iterable[str]) -> None:
    """Remove the settings that a recipe has for evaluators that this command does not run.

    Args:
        evaluators: settings by name; those without a class are not run.
        overrides: of the command line.

    Raises:
        ConfigError: the command line itself has settings for such an evaluator.
    """
    for name in [str(name) for name, node in evaluators.items() if node is None]:  # switched off
        del evaluators[name]
    unused = [str(name) for name, node in evaluators.items() if "_target_" not in _settings(node)]
    for name in unused:
        for override in overrides:
            key = override.lstrip("+").partition("=")[0]
            if f"{key}.".startswith(f"evaluation.{name}."):
                raise ConfigError(f"{override}: {name} is not evaluated; try evaluation=[...,{name}]")
        del evaluators[name]


def _settings(node: Any) -> Any:
    """Return the settings of an evaluator; a value that is none, such as a number, is refused later."""
    return node if isinstance(node, DictConfig) else "_target_"
