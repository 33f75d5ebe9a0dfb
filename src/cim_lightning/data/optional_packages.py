"""Packages that only some file formats need: the extras of pyproject.toml."""

import importlib

from cim_lightning.errors import ConfigError


def is_installed(module: str) -> bool:
    """Return whether a module can be imported; imports it."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def require(module: str, extra: str, purpose: str) -> None:
    """Require an optional module.

    Args:
        module: as in `import module`.
        extra: of cim-lightning that installs it.
        purpose: what needs it, as in ".parquet files".

    Raises:
        ConfigError: the module is missing.
    """
    if not is_installed(module):
        hint = f"pip install 'cim-lightning[{extra}]'"
        raise ConfigError(f"{purpose}: the package {module} is missing; {hint}")
