"""Settings of evaluators that a command does not run."""

from collections.abc import Iterable

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
    for name in [str(name) for name in evaluators if "_target_" not in evaluators[name]]:
        for override in overrides:
            key = override.lstrip("+").partition("=")[0]
            if f"{key}.".startswith(f"evaluation.{name}."):
                raise ConfigError(f"{override}: {name} is not evaluated; try evaluation=[...,{name}]")
        del evaluators[name]
