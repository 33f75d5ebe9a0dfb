"""In which settings runs differ, of all that they were configured with."""

from collections.abc import Iterator, Sequence
from typing import Any

from cim_lightning.report.runs import Run, grouped

ABSENT = "--"
CALLED = tuple(f"logger.wandb.{key}" for key in ("id", "name", "group", "tags"))  # every run's own


def configurations(runs: Sequence[Run]) -> dict[str, dict[str, str]]:
    """The settings that are not the same everywhere: by key, the value of every group of runs.

    What follows from another setting by interpolation (`method.backbone.name` from `backbone.name`) is told
    once, under the shorter name; folders of a run, and what differs by its seed alone, not at all.
    """
    groups = {name: [flat(run) for run in some] for name, some in grouped(runs).items()}
    keys = dict.fromkeys(key for some in groups.values() for one in some for key in one)
    found: dict[str, dict[str, str]] = {}
    for key in sorted(keys, key=lambda key: (key.count("."), key)):
        values = {
            name: ", ".join(dict.fromkeys(one.get(key, ABSENT) for one in some))
            for name, some in groups.items()
        }
        parts = key.split(".")
        said = any(found.get(".".join(parts[i:])) == values for i in range(1, len(parts)))
        if len(set(values.values())) > 1 and not said:
            found[key] = values
    return dict(sorted(found.items()))


def flat(run: Run) -> dict[str, str]:
    """A run's settings by dotted key, with its own folder and its seed called by these names."""
    settings = {}
    for key, value in _leaves(run.settings, ""):
        text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        if key.rpartition(".")[2] == "seed" and value == run.seed:
            text = "(seed)"
        settings[key] = text.replace(str(run.settings.get("paths", {}).get("run", run.folder)), "(run)")
    for called in [key for key in settings if key == "output_dir" or key.startswith(CALLED)]:
        del settings[called]
    return settings


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, child in node.items():
            yield from _leaves(child, f"{path}.{key}" if path else str(key))
    else:
        yield path, node
