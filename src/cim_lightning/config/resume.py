"""Resume: find the unfinished run of a command, its checkpoint, and what changed since it started."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cim_lightning import checkpoint_files
from cim_lightning.atomic import read_json
from cim_lightning.config.arguments import quote_values
from cim_lightning.config.result_settings import (
    FOLDER_SETTINGS,
    NAMES_IMAGES,
    may_change_on_resume,
    may_change_when_finished,
    same_command,
)
from cim_lightning.config.saved_settings import read_settings
from cim_lightning.errors import ConfigError, format_value
from cim_lightning.old_settings import upgrade

SWEEP_FLAGS = {"-m", "--multirun"}
CONFIG_FLAGS = ("--config-dir", "-cd")  # flags with a value that do not prevent automatic resume

log = logging.getLogger("cim_lightning")


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
        if not sweep and not checkpoint_files.exists(path.parent / "checkpoints"):
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
        ConfigError: `resume` is no checkpoint, would overwrite a run, a setting changed that may not, or all
            checkpoints of the run are damaged.
    """
    checkpoints = folder / "checkpoints"
    choice = settings["resume"]
    if choice == "never":
        if checkpoint_files.exists(checkpoints):
            raise ConfigError("resume", choice, f"{folder} has a run already", hint="try another output_dir")
        return None
    if choice != "auto":
        check_exists(choice)
        checkpoint_files.check(Path(choice))
        return str(choice)
    if not checkpoint_files.exists(checkpoints):
        return None
    can_compare = bool(read_json(folder / "run.json").get("images"))
    for key, (before, now) in _differences(folder, settings):
        if not may_change_on_resume(key) and not (can_compare and key in NAMES_IMAGES):
            rule = f"the run in {folder} started with {format_value(before)}"
            raise ConfigError(key, now, rule, hint=f"try {key}={format_value(before)}, or another output_dir")
    return str(checkpoint_files.newest(checkpoints, "output_dir"))


def check_exists(choice: str) -> None:
    """Raise ConfigError if `resume` is a checkpoint that does not exist; needs no import of torch."""
    if choice not in ("auto", "never") and not Path(choice).exists():
        raise ConfigError("resume", choice, "no such checkpoint", suggest="auto")


def fingerprints(record: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the number and the fingerprint of training and validation images, for run.json.

    Args:
        record: of the data module.

    Returns:
        {} if a source has no fingerprint.
    """
    if any(part["fingerprint"] is None for part in record.values()):
        return {}
    return {split: {key: part[key] for key in ("images", "fingerprint")} for split, part in record.items()}


def check_data(checkpoint: str, folder: Path, settings: dict[str, Any], data: Any) -> list[dict[str, Any]]:
    """Check before training resumes that a data module continues with the images of a checkpoint.

    Args:
        checkpoint: path.
        folder: of the run.
        settings: resolved.
        data: an ImageData with its trainer.

    Returns:
        Step and phrase of each change of the images, for run.json.

    Raises:
        ConfigError: the checkpoint is of an earlier version, an optimizer step had another number of images,
            or the images changed.
    """
    state = checkpoint_files.data_state(Path(checkpoint), type(data).__qualname__)
    if "images" not in state:
        rule = f"{checkpoint} is of an earlier version, which drew other views and crops"
        new_run = "another output_dir" if settings["resume"] == "auto" else "resume=never"
        hint = f"try {new_run}, with backbone.weights={checkpoint} to start from its weights"
        raise ConfigError("resume", settings["resume"], rule, hint=hint)
    data.check_state(state)
    changes = data.describe_changes(state)
    for key, (earlier, value) in _differences(folder, settings):
        if key in NAMES_IMAGES and settings["resume"] == "auto" and not changes:
            log.info("%s=%s has the same images as %s", key, format_value(value), format_value(earlier))
    step = checkpoint_files.global_step(Path(checkpoint))
    return [{"step": step, "change": change} for change in changes]


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
    return read_settings(folder).get("evaluation") or {}


def _differences(folder: Path, settings: dict[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the settings that differ from those of the run in a folder, as (before, now)."""
    saved = read_settings(folder)
    if not saved:
        return
    before, now = (dict(_flatten(upgrade(part))) for part in (saved, settings))
    # Report a definition before the settings that refer to it.
    for key in sorted(now.keys() | before.keys(), key=lambda key: (key.count("."), key)):
        if before.get(key) != now.get(key) and not (key in NAMES_IMAGES and _same_path(before, now, key)):
            yield key, (before.get(key), now.get(key))


def _same_path(before: dict[str, Any], now: dict[str, Any], key: str) -> bool:
    """Return whether two settings are the same folder, spelled with another relative path, link or slash."""
    paths = [os.path.expanduser(str(values.get(key))) for values in (before, now)]
    return os.path.exists(paths[0]) and os.path.realpath(paths[0]) == os.path.realpath(paths[1])


def _flatten(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(node, dict):
        yield path, node
        return
    for key, value in node.items():
        yield from _flatten(value, f"{path}.{key}".lstrip("."))
