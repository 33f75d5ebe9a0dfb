"""Settings that a run saved in its folder."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from cim_lightning.config.compose import CONF
from cim_lightning.errors import ConfigError
from cim_lightning.old_settings import upgrade


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of the run in a folder; {} if it has none.

    Raises:
        ConfigError: config.yaml is damaged.
    """
    path = folder / "config.yaml"
    if not path.exists():
        return {}
    try:
        settings = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        settings = None
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: damaged; restore the file, or try another output_dir")
    return settings


def data_of_run(file: Path) -> Any:
    """Return the data settings in the config.yaml of a run.

    Raises:
        ConfigError: the file is damaged, or has no such settings.
    """
    try:
        return upgrade(yaml.safe_load(file.read_text("utf-8")))["data"]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        hint = "try data=folder data.root=..."
        raise ConfigError("checkpoint", file, "cannot be read as the settings of a run", hint=hint) from error


def pixel_defaults() -> dict[str, int]:
    """Return the channels and bits of images; runs of earlier versions have no settings for them."""
    defaults: Any = OmegaConf.load(CONF / "data" / "_images.yaml")
    return {key: defaults[key] for key in ("channels", "bits")}
