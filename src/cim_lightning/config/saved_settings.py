"""Settings that a run saved in its folder."""

from pathlib import Path
from typing import Any

import yaml

from cim_lightning.errors import ConfigError


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
