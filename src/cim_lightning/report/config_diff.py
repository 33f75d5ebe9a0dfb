"""Settings that differ between runs."""

from collections.abc import Iterator, Sequence
from typing import Any

from cim_lightning.report.runs import Run, group_by_setting

ABSENT = "--"
UNIQUE = ("output_dir", *(f"logger.wandb.{key}" for key in ("id", "name", "group", "tags")))  # per run


def differing_settings(runs: Sequence[Run]) -> dict[str, dict[str, str]]:
    """Return the settings that differ between groups of runs: key -> group -> value.

    Folders, seeds and repetitions by interpolation, such as `method.backbone.name` = `backbone.name`, are
    left out.
    """
    groups = {name: [flatten(run) for run in group] for name, group in group_by_setting(runs).items()}
    keys = {key for group in groups.values() for settings in group for key in settings}
    differing: dict[str, dict[str, str]] = {}
    for key in sorted(keys, key=lambda key: (key.count("."), key)):
        values = {
            name: ", ".join(dict.fromkeys(settings.get(key, ABSENT) for settings in group))
            for name, group in groups.items()
        }
        parts = key.split(".")
        repeated = any(differing.get(".".join(parts[i:])) == values for i in range(1, len(parts)))
        if len(set(values.values())) > 1 and not repeated:
            differing[key] = values
    return dict(sorted(differing.items()))


def flatten(run: Run) -> dict[str, str]:
    """Return a run's settings by dotted key, with "(run)" for its folder and "(seed)" for its seed."""
    folder = str(run.settings.get("paths", {}).get("run", run.folder))
    settings = {}
    for key, value in _leaves(run.settings, ""):
        text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        if key.rpartition(".")[2] == "seed" and value == run.seed:
            text = "(seed)"
        if not key.startswith(UNIQUE):
            settings[key] = text.replace(folder, "(run)")
    return settings


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, child in node.items():
            yield from _leaves(child, f"{path}.{key}" if path else str(key))
    else:
        yield path, node
