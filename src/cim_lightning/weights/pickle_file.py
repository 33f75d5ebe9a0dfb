"""Load a file of torch.save without running anything that it names."""

import builtins
import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from cim_lightning.errors import ConfigError

PLAIN = {"bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "str", "tuple"}
DICTIONARIES = (  # dictionaries of settings in checkpoints of Lightning and other trainers
    "addict.addict.Dict",
    "collections.defaultdict",
    "easydict.EasyDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "mmengine.config.config.ConfigDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "yacs.config.CfgNode",
)


class Placeholder:
    """Stands for an object of a class that torch does not load, such as argparse.Namespace.

    Its constructor has no effect, so that nothing of the class or function in the file runs.
    """

    state: Any = None  # attributes of the object

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dictionary:
    """Creates an OrderedDict, which torch can fill, for a subclass of dict."""

    def __new__(cls, *args: Any) -> Any:
        return OrderedDict()


def load_pickle(path: Path, parameter: str) -> Any:
    """Return the content of a file of torch.save. Objects of other classes than torch loads are placeholders.

    Args:
        path: of the file.
        parameter: for the error.

    Raises:
        ConfigError: the file cannot be loaded without running code.
    """
    names: list[str] = []  # the loop would find them too, but would read the tensors each time
    if zipfile.is_zipfile(path):
        names += filter(_is_replaceable, torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    while True:
        try:
            allowed = [_substitute(name) for name in {*DICTIONARIES, *names}]
            with torch.serialization.safe_globals(allowed), path.open("rb") as file:
                return torch.load(file, "cpu", weights_only=True)  # of a path, torch would trust the suffix
        except pickle.UnpicklingError as error:
            found = re.search(r"GLOBAL (\S+) (was not|whose module)", str(error))
            unknown = found is not None and found[2] == "was not" and found[1] not in names
            if found is not None and unknown and _is_replaceable(found[1]):
                names.append(found[1])
                continue
            if found is None and "Placeholder" not in str(error) and "persistent_load" not in str(error):
                raise
            classes = found[1] if found else ", ".join(filter(_is_replaceable, names)) or "a whole model"
            rule = f"holds {classes}, which is not loaded because it could run code"
            hint = "where you trust the file, save its state_dict alone"
            raise ConfigError(parameter, path, rule, hint=hint) from None


def _substitute(name: str) -> Any:
    """Return what torch uses for a class or function that a file names."""
    if name.rpartition(".")[2] in PLAIN and name.rpartition(".")[0] in ("", "builtins"):
        return getattr(builtins, name.rpartition(".")[2])
    return (_Dictionary if name in DICTIONARIES else Placeholder, name)


def _is_replaceable(name: str) -> bool:
    """Return whether a file that names a class or function can be loaded; functions of Python are refused."""
    return "." in name.removeprefix("builtins.") or name.removeprefix("builtins.") in PLAIN
