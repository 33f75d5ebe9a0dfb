"""Check that the images of a data module exist, from the source of its `source`, without importing torch."""

from omegaconf import DictConfig

from cim_lightning.config.constructor_checks import run_checks
from cim_lightning.config.setting_paths import HYDRA_KEYS, known_value
from cim_lightning.config.source_names import checks_of_files
from cim_lightning.errors import ConfigError


def check_image_paths(data: DictConfig) -> None:
    """Run the checks of paths with which the source of a data module starts.

    Args:
        data: settings of an ImageData that have passed `validate.check`.

    Raises:
        ConfigError: there is no such folder.
    """
    source = data.get("source")
    if not isinstance(source, DictConfig):
        return
    given = {str(name): known_value(node, name) for node in (data, source) for name in node}
    settings = {name: value for name, value in given.items() if name not in HYDRA_KEYS}
    try:
        with checks_of_files():
            run_checks(source["_target_"], settings)
    except ConfigError as error:
        error.group = "data"
        raise
