"""Resume: find the unfinished run of a command, its checkpoint, and what changed since it started."""

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cim_lightning.atomic import read_json
from cim_lightning.config.arguments import quote_values
from cim_lightning.config.result_settings import (
    FOLDER_SETTINGS,
    may_change_on_resume,
    may_change_when_finished,
    same_command,
)
from cim_lightning.errors import ConfigError, format_value

SWEEP_FLAGS = {"-m", "--multirun"}
CONFIG_FLAGS = ("--config-dir", "-cd")  # flags with a value that do not prevent automatic resume


def add_output_dir(arguments: list[str]) -> list[str]:
    """Add the folder of the last unfinished run or sweep of the same command, if there is one.

    Arguments that name a folder or how to resume stay unchanged.
    """
    flags = {a for a in arguments if a.startswith("-") and a.partition("=")[0] not in CONFIG_FLAGS}
    values = {i for i, a in enumerate(arguments) if i and arguments[i - 1] in CONFIG_FLAGS}
    overrides = [a for i, a in enumerate(arguments) if not a.startswith("-") and i not in values]
    keys = {override.partition("=")[0].lstrip("+") for override in overrides}
    if flags - SWEEP_FLAGS or keys & FOLDER_SETTINGS:
        return arguments
    for folder, earlier in _earlier(bool(flags)):
        if same_command(earlier, overrides):
            if _is_complete(folder, bool(flags)):
                return arguments
            print(f"resuming {folder}; for a new run: resume=never", file=sys.stderr)
            return [*arguments, *quote_values([f"output_dir={folder}"], "pretrain")]
    return arguments


def _earlier(sweep: bool) -> Iterator[tuple[Path, list[str]]]:
    """Yield all sweeps, or all runs that have a checkpoint, with their overrides; the last one first."""
    for path in sorted(Path("outputs").glob(f"*/*/{'multirun.yaml' if sweep else 'run.json'}"), reverse=True):
        if not sweep and not (path.parent / "checkpoints" / "last.ckpt").exists():
            continue
        try:
            if sweep:
                overrides = yaml.safe_load(path.read_text())["hydra"]["overrides"]
                yield path.parent, [*overrides["task"], *overrides["hydra"]]
            else:
                yield path.parent, read_json(path)["overrides"]
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
            print(f"{path}: skipped, it cannot be read", file=sys.stderr)


def _is_complete(folder: Path, sweep: bool) -> bool:
    if sweep:  # it writes its table at the end
        return (folder / "table.md").exists() and not any(folder.rglob("failure.json"))
    return is_trained(folder) and is_evaluated(folder, _evaluation(folder))


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
        if not zipfile.is_zipfile(choice):
            rule = "is not a checkpoint" if Path(choice).is_file() else "no such checkpoint"
            raise ConfigError("resume", choice, rule, suggest="auto")
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
    changed = (key for key, _ in _differences(folder, settings))
    return is_trained(folder) and settings["resume"] == "auto" and all(map(may_change_when_finished, changed))


def is_trained(folder: Path) -> bool:
    """Return whether a folder has a run that trained to its end and exported its backbone."""
    return (folder / "metrics.json").exists() and (folder / "backbone.json").exists()


def is_evaluated(folder: Path, evaluation: dict[str, Any]) -> bool:
    """Return whether a finished run has this evaluation, and no evaluator of it is missing or failed."""
    results = read_json(folder / "evaluation" / "metrics.json")
    done = {*results.get("protocol", ()), *results.get("skipped", ())}
    return bool(results) and evaluation.keys() <= done and evaluation == _evaluation(folder)


def _evaluation(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "config.yaml").read_text()).get("evaluation") or {}


def _differences(folder: Path, settings: dict[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the settings that differ from those of the run in a folder, as (before, now)."""
    saved = folder / "config.yaml"
    if not saved.exists():
        return
    before, now = dict(_flatten(yaml.safe_load(saved.read_text()))), dict(_flatten(settings))
    # Report a definition before the settings that refer to it.
    for key in sorted(now.keys() | before.keys(), key=lambda key: (key.count("."), key)):
        if before.get(key) != now.get(key):
            yield key, (before.get(key), now.get(key))


def _flatten(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(node, dict):
        yield path, node
        return
    for key, value in node.items():
        yield from _flatten(value, f"{path}.{key}".lstrip("."))
