"""Explain a user's error in one line: the setting, its value, the rule, and a suggestion."""

import errno
import re
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import InstantiationException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

from cim_lightning.config.arguments import unquote
from cim_lightning.config.hydra_errors import explain_hydra_error, last_override
from cim_lightning.config.setting_paths import setting_paths
from cim_lightning.errors import ConfigError

FREE_SPACE = "if the disk is full, free some space and run the same command to resume"
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO}


def explain(
    error: BaseException, command: str, cfg: DictConfig | None = None, arguments: Sequence[str] = ()
) -> str | None:
    """Return one line about a user's error; None for any other error.

    Args:
        error: the exception.
        command: such as "pretrain".
        cfg: the composed configuration, in which the path of a parameter is looked up.
        arguments: of the command line, to quote from.
    """
    outermost = error
    while error.__cause__ is not None and not isinstance(error, (ConfigError, MissingConfigException)):
        if isinstance(error, InstantiationException) and "lightning.pytorch.trainer" in str(error):
            return f"trainer: {_one_line(error.__cause__)}"
        error = error.__cause__
    if isinstance(error, ConfigError):
        return _with_path(error, outermost, cfg)
    if type(error).__name__ == "MisconfigurationException":  # of Lightning, which is slow to import
        return f"trainer: {_one_line(error)}"
    if isinstance(error, ModuleNotFoundError) and isinstance(outermost, InstantiationException):
        return f"{str(outermost).splitlines()[-1]}: {_one_line(error)}"
    if isinstance(error, OSError) and (line := _explain_system_error(error, arguments)):
        return line
    if "PytorchStreamWriter failed" in str(error):  # of torch.save
        return f"a checkpoint cannot be written; {FREE_SPACE}"
    if isinstance(error, ValueError) and str(error).startswith("Expected more than 1 value per channel"):
        return "data.batch_size: batch normalization needs two or more images; try data.batch_size=2"
    return explain_hydra_error(error, command, arguments)


def name_settings(line: str, cfg: DictConfig | None) -> str:
    """Replace the parameters in an advice, such as "(base_lr)" or "precision=32-true", by their settings.

    A parameter of several groups stays as it is.
    """
    if cfg is None:
        return line
    defined = {path for _, path in setting_paths(cfg)}

    def replace(match: re.Match[str]) -> str:
        found = [path for path in defined if path.rpartition(".")[2] == match[0]]
        return found[0] if len(found) == 1 else match[0]

    return re.sub(r"(?<![\w./])[a-z]\w*(?==|\))", replace, line)


def _with_path(error: ConfigError, outermost: BaseException, cfg: DictConfig | None) -> str:
    """Return an error's line with the paths of its settings instead of the parameters.

    Settings of the object that raised the error come first, then settings with the error's value.
    """
    # A data worker's error has a traceback in front.
    line = re.split(r"(?:Config|Loading)Error: ", str(error).strip())[-1]
    name = error.parameter or line.partition("=")[0]  # and has lost its attributes
    if cfg is None or not name.isidentifier():
        return line
    found = re.search(r"full_key: (\S+)", str(outermost))  # Hydra names the node that it instantiated
    paths = dict(setting_paths(cfg))
    group = found[1] if found else error.group
    group = f"{paths.get(group, group)}."  # method.backbone is ${backbone}
    defined = {used: path for used, path in paths.items() if used.rpartition(".")[2] == name}
    equal = {
        used: error.has_value and OmegaConf.select(cfg, path) == error.value for used, path in defined.items()
    }
    used = [u for u in defined if u.startswith(group) or equal[u] or not error.has_value]
    unset = name if error.has_value else f"{group}{name}".lstrip(".")
    path = defined[min(used, key=lambda u: (not u.startswith(group), not equal[u]))] if used else unset

    def expand(parameter: str) -> str:
        if parameter == name:
            return path
        groups = path.split(".")[:-1]  # a parameter of the same group, or of a group around it
        known = (".".join([*groups[:depth], parameter]) for depth in range(len(groups), 0, -1))
        return next((paths[used] for used in known if used in paths), parameter)

    def expand_entry(match: re.Match[str]) -> str:
        group = expand(match[1])
        others = {paths[used] for used in paths if used.rpartition(".")[2] == match[1]}
        if group == match[1] and len(others) == 1:
            group = others.pop()
        setting = f"{group}{match[2]}"
        is_new = setting != match[0] and OmegaConf.select(cfg, setting) is None
        return f"+{setting}" if is_new else setting

    line = re.sub(r"^\w+(?=[=:])|(?<![\w./])\w+(?==)", lambda match: expand(match[0]), line)
    return re.sub(r"(?<![\w./+])(\w+)(\.\w+)(?==)", expand_entry, line)  # kwargs.depth=3


def _explain_system_error(error: OSError, arguments: Sequence[str]) -> str | None:
    """Return the line about a file or folder that cannot be written."""
    override, unwritable = last_override("output_dir", arguments), error.errno in UNWRITABLE
    output, failed = Path(unquote(override.partition("=")[2]) or "outputs").absolute(), error.filename
    above = failed and output.is_relative_to(Path(failed).absolute())
    below = failed and output in Path(failed).absolute().parents
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    if error.errno == errno.ENOENT and below and not Path(failed).absolute().parent.exists():
        return f"{Path(failed).parent}: the folder was removed while the command ran; start again"
    if error.errno in (errno.EISDIR, errno.ENOTDIR) and below:
        return f"{failed}: {error.strerror}; move it away, and run the same command to resume"
    if above or (below and unwritable and not is_full):
        given = override if "=" in override else f"output_dir={failed}"
        return f"{given}: cannot be written ({error.strerror}); try another output_dir"
    if unwritable:
        hint = f"; {FREE_SPACE}" if is_full else ""
        return f"{error.filename or 'a file'}: {error.strerror}{hint}"
    return None


def _one_line(error: BaseException | None) -> str:
    return " ".join(str(error).split())
