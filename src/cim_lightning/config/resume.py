"""Resume: find the unfinished run of a command, its checkpoint, and what changed since it started."""

import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from cim_lightning.atomic import read_json
from cim_lightning.config.result_settings import may_change_on_resume, same_command
from cim_lightning.errors import ConfigError, format_value

SWEEP_FLAGS = {"-m", "--multirun"}
CONFIG_FLAGS = ("--config-dir", "-cd")  # the other flags that a command can resume with; each has a value
FOLDER_KEYS = {"output_dir", "resume", "hydra.run.dir", "hydra.sweep.dir"}


def add_output_dir(arguments: list[str]) -> list[str]:
    """Add the folder of the last unfinished run or sweep of the same command, if there is one.

    Arguments that name a folder or how to resume stay as they are.
    """
    flags = {a for a in arguments if a.startswith("-") and a.partition("=")[0] not in CONFIG_FLAGS}
    values = {i for i, a in enumerate(arguments) if i and arguments[i - 1] in CONFIG_FLAGS}
    overrides = [a for i, a in enumerate(arguments) if not a.startswith("-") and i not in values]
    keys = {override.partition("=")[0].lstrip("+") for override in overrides}
    if flags - SWEEP_FLAGS or keys & FOLDER_KEYS:
        return arguments
    for folder, earlier in _sweeps() if flags else _runs():
        if same_command(earlier, overrides):
            if _sweep_complete(folder) if flags else _run_complete(folder):
                return arguments
            print(f"resuming {folder}; resume=never starts anew", file=sys.stderr)
            return [*arguments, f"output_dir={folder}"]
    return arguments


def _runs() -> Iterator[tuple[Path, list[str]]]:
    """Yield the runs that have a checkpoint and their overrides, the last run first."""
    for folder, overrides in _started("run.json", lambda path: read_json(path)["overrides"]):
        if (folder / "checkpoints" / "last.ckpt").exists():
            yield folder, overrides


def _sweeps() -> Iterator[tuple[Path, list[str]]]:
    """Yield the sweeps and their overrides, those of Hydra too, the last sweep first."""

    def read(path: Path) -> list[str]:
        overrides = yaml.safe_load(path.read_text())["hydra"]["overrides"]
        return [*overrides["task"], *overrides["hydra"]]

    return _started("multirun.yaml", read)


def _started(name: str, read: Callable[[Path], list[str]]) -> Iterator[tuple[Path, list[str]]]:
    for path in sorted(Path("outputs").glob(f"*/*/{name}"), reverse=True):
        try:
            overrides = read(path)
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
            print(f"{path}: skipped, it cannot be read", file=sys.stderr)
        else:
            yield path.parent, overrides


def _run_complete(folder: Path) -> bool:
    return is_trained(folder) and is_evaluated(folder, _evaluation(folder))


def _sweep_complete(folder: Path) -> bool:
    """Return whether a sweep wrote its table, which it does at its end, and no job failed."""
    return (folder / "table.md").exists() and not any(folder.rglob("failure.json"))


def find_checkpoint(folder: Path, settings: dict[str, Any]) -> str | None:
    """Return the checkpoint that a run in a folder starts from; None for a new run.

    Raises:
        ConfigError: `resume` is no checkpoint, would overwrite a run, or a setting changed that may not.
    """
    last = folder / "checkpoints" / "last.ckpt"
    choice = settings["resume"]
    if choice == "never":
        if last.exists():
            raise ConfigError("resume", choice, f"{folder} has a run already", hint="try another output_dir")
        return None
    if choice != "auto":
        if not Path(choice).is_file():
            raise ConfigError("resume", choice, "no such checkpoint", suggest="auto")
        if not zipfile.is_zipfile(choice):
            raise ConfigError("resume", choice, "is not a checkpoint", hint="try a last.ckpt, or resume=auto")
        return str(choice)
    if not last.exists():
        return None
    for key, (before, now) in _differences(folder, settings):
        if not may_change_on_resume(key):
            rule = f"the run in {folder} started with {format_value(before)}"
            raise ConfigError(key, now, rule, hint=f"try {key}={format_value(before)}, or another output_dir")
    return str(last)


def is_finished(folder: Path, settings: dict[str, Any]) -> bool:
    """Return whether a folder has the finished run of these settings."""
    return (
        is_trained(folder)
        and settings["resume"] == "auto"
        and all(
            may_change_on_resume(key) and not key.startswith("trainer.max")
            for key, _ in _differences(folder, settings)
        )
    )


def is_trained(folder: Path) -> bool:
    """Return whether a folder has a run that trained to its end and exported its backbone."""
    return (folder / "metrics.json").exists() and (folder / "backbone.json").exists()


def is_evaluated(folder: Path, evaluation: dict[str, Any]) -> bool:
    """Return whether a finished run was configured with this evaluation, and all its results exist."""
    parts = folder / "evaluation" / "evaluators"
    files = [folder / "evaluation" / "metrics.json", *(parts / f"{part}.json" for part in evaluation)]
    return all(file.exists() for file in files) and evaluation == _evaluation(folder)


def _evaluation(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "config.yaml").read_text()).get("evaluation") or {}


def _differences(folder: Path, settings: dict[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the settings that differ from those of the run in a folder, as (before, now)."""
    saved = folder / "config.yaml"
    before = dict(_flatten(yaml.safe_load(saved.read_text()))) if saved.exists() else {}
    now = dict(_flatten(settings))
    keys = now.keys() | before.keys() if before else ()
    for key in sorted(keys, key=lambda key: (key.count("."), key)):  # a definition before its uses
        if before.get(key) != now.get(key):
            yield key, (before.get(key), now.get(key))


def _flatten(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _flatten(value, f"{path}.{key}" if path else key)
    else:
        yield path, node
