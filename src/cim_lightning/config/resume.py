"""Going on where a run stopped: which folder, which checkpoint, and whether it is the same run."""

import json
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from cim_lightning.errors import ConfigError

# What may differ between a run and its continuation: how and how long it runs, and in which precision, so
# that a run can move to another machine. The parts of the trainer that would make it another run may not.
MAY_DIFFER = ("trainer.", "logger.", "callbacks.", "paths.", "hydra.", "evaluation")
MAY_DIFFER_TOO = ("data.num_workers", "output_dir", "resume", "compile")
MAY_NOT = tuple(
    f"trainer.{name}"
    for name in (
        "accumulate_grad_batches",
        "gradient_clip_val",
        "gradient_clip_algorithm",
        "devices",
        "num_nodes",
        "limit_train_batches",
    )
)
SWEEP_FLAGS = {"-m", "--multirun"}
CONFIG_FLAGS = ("--config-dir", "-cd")  # the only others that a run which goes on may have; each has a value
NOT_ASKED = ("output_dir=", "hydra.mode=", "hydra.sweep.dir=", "hydra/launcher=", "hydra.launcher.")

# A folder, what was typed, and what says whether it came to its end.
Begun = tuple[Path, list[str], Callable[[Path], bool]]


def rerouted(arguments: list[str]) -> list[str]:
    """The command of an unfinished run or sweep gets its folder, unless it names one or how to resume."""
    flags = {a for a in arguments if a.startswith("-") and a.partition("=")[0] not in CONFIG_FLAGS}
    values = {i for i, a in enumerate(arguments) if i and arguments[i - 1] in CONFIG_FLAGS}
    settings = [a for i, a in enumerate(arguments) if not a.startswith("-") and i not in values]
    named = {s.partition("=")[0].lstrip("+") for s in settings}
    if flags - SWEEP_FLAGS or named & {"output_dir", "resume", "hydra.run.dir", "hydra.sweep.dir"}:
        return arguments
    for folder, begun, complete in _sweeps() if flags else _runs():
        if _same(begun, settings):
            if complete(folder):
                return arguments
            print(f"going on with {folder} (resume=never trains anew)", file=sys.stderr)
            return [*arguments, f"output_dir={folder}"]
    return arguments


def _runs() -> Iterator[Begun]:
    """Runs that got as far as a checkpoint, the last one first."""
    for launch in sorted(Path("outputs").glob("*/*/launch.json"), reverse=True):
        kept = (launch.parent / "checkpoints" / "last.ckpt").exists()
        if kept and (typed := _typed(launch, lambda text: json.loads(text)["overrides"])) is not None:
            yield launch.parent, typed, _run_complete


def _sweeps() -> Iterator[Begun]:
    """Sweeps, the last one first."""
    for multirun in sorted(Path("outputs").glob("*/*/multirun.yaml"), reverse=True):
        if (typed := _typed(multirun, _both)) is not None:
            yield multirun.parent, typed, _sweep_complete


def _both(multirun: str) -> list[str]:
    """What a sweep's command says of its jobs, and of itself."""
    overrides = yaml.safe_load(multirun)["hydra"]["overrides"]
    return [*overrides["task"], *overrides["hydra"]]


def _typed(path: Path, read: Callable[[str], list[str]]) -> list[str] | None:
    """Overrides out of a file; None, and a warning, where it is not whole."""
    try:
        return read(path.read_text())
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        print(f"{path}: passed over, it cannot be read", file=sys.stderr)
        return None


def _same(begun: Iterable[str], settings: Iterable[str]) -> bool:
    """Whether two commands ask for the same, wherever it lies and whatever launches a sweep's jobs."""
    one, other = (sorted(s for s in some if not s.startswith(NOT_ASKED)) for some in (begun, settings))
    return one == other


def _run_complete(folder: Path) -> bool:
    return complete(folder) and judged(folder, _evaluation(folder))


def _sweep_complete(folder: Path) -> bool:
    """Its table is written at its end."""
    return (folder / "table.md").exists() and not any(folder.rglob("failure.json"))


def checkpoint(folder: Path, settings: dict[str, Any]) -> str | None:
    """The checkpoint that a run in a folder begins from; None for a new run.

    Raises:
        ConfigError: `resume` names no file, would overwrite a run, or would go on with other settings.
    """
    last = folder / "checkpoints" / "last.ckpt"
    choice = settings["resume"]
    if choice == "never":
        if last.exists():
            raise ConfigError(f"resume=never: {folder} holds a run already; try another output_dir")
        return None
    if choice != "auto":
        if not Path(choice).is_file():
            raise ConfigError(f"resume={choice}: there is no such checkpoint; try resume=auto")
        if not zipfile.is_zipfile(choice):
            raise ConfigError(f"resume={choice}: is no checkpoint; try resume=auto, or a run's last.ckpt")
        return str(choice)
    if not last.exists():
        return None
    for key, (before, now) in _differences(folder, settings):
        if _matters(key):
            raise ConfigError(
                f"{key}={now}: the run in {folder} was begun with {before}; "
                f"try {key}={before}, or another output_dir"
            )
    return str(last)


def finished(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether a folder holds this very run, at its end."""
    return (
        complete(folder)
        and settings["resume"] == "auto"
        and not any(
            key.startswith("trainer.max") or _matters(key) for key, _ in _differences(folder, settings)
        )
    )


def _matters(key: str) -> bool:
    return key in MAY_NOT or not (key.startswith(MAY_DIFFER) or key in MAY_DIFFER_TOO)


def complete(folder: Path) -> bool:
    """Whether a folder holds a run at its end, and its backbone."""
    return (folder / "metrics.json").exists() and (folder / "backbone.json").exists()


def judged(folder: Path, evaluation: dict[str, Any]) -> bool:
    """Whether a finished run was begun with this very evaluation, and every part of it is there.

    Parts of a run that has gone on since lie there too, but not together.
    """
    parts = folder / "evaluation" / "parts"
    files = [folder / "evaluation" / "metrics.json", *(parts / f"{part}.json" for part in evaluation)]
    return all(file.exists() for file in files) and evaluation == _evaluation(folder)


def _evaluation(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "config.yaml").read_text()).get("evaluation") or {}


def _differences(folder: Path, settings: dict[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    saved = folder / "config.yaml"
    before = dict(_flat(yaml.safe_load(saved.read_text()))) if saved.exists() else {}
    now = dict(_flat(settings))
    keys = now.keys() | before.keys() if before else ()
    for key in sorted(keys, key=lambda key: (key.count("."), key)):  # where it is set before where it is used
        if before.get(key) != now.get(key):
            yield key, (before.get(key), now.get(key))


def _flat(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _flat(value, f"{path}.{key}" if path else key)
    else:
        yield path, node
