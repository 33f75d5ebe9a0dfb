"""Load the splits of a Hugging Face data set, quietly and with errors of one line."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from cim_lightning.checks import did_you_mean
from cim_lightning.data.files import existing_folder
from cim_lightning.data.optional_packages import require
from cim_lightning.errors import ConfigError

log = logging.getLogger(__name__)
MAX_REASON = 300  # characters of an error of the library
FILES = {".parquet": "parquet", ".arrow": "arrow"}  # loaders of single files
SAVED = ("dataset_dict.json", "state.json")  # written by `save_to_disk`


def load_splits(name: str, config: str | None = None, revision: str | None = None) -> dict[str, Any]:
    """Return the `datasets.Dataset` of each split; its files are mapped into memory.

    Parquet and image files are converted once, into the cache folder of the library. No code of the data set
    is executed.

    Args:
        name: OWNER/NAME on the Hub, or a local folder or file.

    Raises:
        ConfigError: the library is missing, or the data set cannot be loaded.
    """
    require("datasets", "hf", "data sets of Hugging Face")
    path = os.path.abspath(os.path.expanduser(name))
    is_local = os.path.exists(path)
    if not is_local and (name.startswith(("/", "~", ".")) or name.count("/") > 1):
        existing_folder(name, "name")  # raises an error with the closest name
    if revision and is_local:
        raise ConfigError(
            "revision", revision, "is for data sets of the Hub; this one is local", suggest=None
        )
    if config and (os.path.isfile(path) or _is_saved(path)):
        raise ConfigError("config", config, "the data set has no configurations", suggest=None)
    try:
        with _quiet():
            found = _load(path if is_local else name, is_local, config, revision)
    except Exception as error:  # the library has no common class of errors
        names = _config_names(path if is_local else name, revision)
        if config not in names and len(names) > (config is None):
            rule = "must be a configuration of the data set"
            raise ConfigError("config", config, rule, hint=did_you_mean(config or "", names)) from error
        raise ConfigError("name", name, _reason(error), hint=_hint(error, is_local)) from error
    return dict(found) if isinstance(found, dict) else {"train": found}


def _load(path: str, is_local: bool, config: str | None, revision: str | None) -> Any:
    import datasets

    if _is_saved(path):
        return datasets.load_from_disk(path)
    log.info("loading %s with the library datasets, which downloads or converts it the first time", path)
    suffix = os.path.splitext(path)[1].lower()
    if os.path.isfile(path) and suffix in FILES:
        return datasets.load_dataset(FILES[suffix], data_files=path)
    return datasets.load_dataset(path, config, revision=None if is_local else revision)


def _is_saved(path: str) -> bool:
    """Return whether a folder is one of `save_to_disk`."""
    return any(os.path.isfile(os.path.join(path, file)) for file in SAVED)


def _config_names(path: str, revision: str | None) -> list[str]:
    """Return the names of the configurations; none if they cannot be found."""
    import datasets

    with contextlib.suppress(Exception), _quiet():
        return datasets.get_dataset_config_names(path, revision=revision)
    return []


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the progress bars and messages of the libraries."""
    import datasets
    from huggingface_hub import utils as hub

    libraries: list[Any] = [datasets, hub]
    levels = [library.logging.get_verbosity() for library in libraries]
    with_bars = [library for library in libraries if not library.are_progress_bars_disabled()]
    try:
        for library in libraries:
            library.logging.set_verbosity(logging.CRITICAL)
            library.disable_progress_bars()
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.logging.set_verbosity(level)
        for library in with_bars:
            library.enable_progress_bars()


def _reason(error: BaseException) -> str:
    from datasets.exceptions import DatasetGenerationError

    if isinstance(error, DatasetGenerationError) and error.__cause__:  # it says nothing itself
        return _reason(error.__cause__)
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return reason if len(reason) <= MAX_REASON else f"{reason[:MAX_REASON]}..."


def _hint(error: Exception, is_local: bool) -> str:
    if is_local:
        return "for other image files, try data=folder; for archives, data=webdataset"
    if isinstance(error, ConnectionError):
        return "check the network, or give a local folder"
    return "see the page of the data set on the Hub"
