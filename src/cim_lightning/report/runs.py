"""Runs, read from their folders."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cim_lightning.atomic import read_json
from cim_lightning.config.result_settings import distinguishes_runs
from cim_lightning.metric_registry import METRICS, Metric, by_section_order
from cim_lightning.report.file_checks import INFO, OPTIONAL, check_numbers, check_values, is_metric

log = logging.getLogger(__name__)
EVALUATION = "evaluation/metrics.json"


@dataclass(frozen=True)
class Job:
    """A run or a failed job, with its overrides and those that the sweep varied, by key."""

    folder: Path
    overrides: dict[str, str]
    swept: dict[str, str]


@dataclass(frozen=True)
class Run(Job):
    """One run of `cim-pretrain`.

    Args:
        info: content of `run.json`: the command, and the setup once training has started.
        settings: content of `config.yaml`, resolved.
        numbers: see read_numbers.
        metrics: titles and units by the names in `numbers`: "val/..." of registered metrics and of those that
            its method declares, "evaluation/..." of those that its evaluators declare.
    """

    info: dict[str, Any]
    settings: dict[str, Any]
    numbers: dict[str, Any]
    metrics: dict[str, Metric]

    @property
    def setup(self) -> dict[str, Any]:
        """Cost per image, device and versions, as far as they are known; empty before training starts."""
        return _known(self.info.get("setup", {}))

    @property
    def seed(self) -> int:
        return self.settings["seed"]

    @property
    def finished(self) -> bool:
        return bool(self.numbers)


def read_runs(folder: Path) -> list[Run]:
    """Return the finished and unfinished runs in a folder, at any depth, sorted by folder."""
    return read_all(folder, "run.json", read_run)


def read_all(folder: Path, name: str, read: Callable[[Path], Any]) -> list[Any]:
    """Read each folder, at any depth, that has a file of that name; skip unreadable ones with a warning."""
    records = []
    for path in sorted((path.parent for path in folder.rglob(name)), key=_sort_key):
        try:
            records.append(read(path))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            log.warning("skipped %s, which cannot be read (%s)", path, reason)
    return records


def read_run(folder: Path) -> Run:
    """Return the run in a folder.

    Raises:
        ValueError: a file is incomplete, or has an invalid value.
    """
    info, settings = read_json(folder / "run.json"), yaml.safe_load((folder / "config.yaml").read_text())
    check_values("run.json", info, INFO, required=True)
    check_values("run.json", info, OPTIONAL, required=False)
    check_numbers("run.json", _known(info.get("setup", {})))
    if not isinstance(settings, dict) or type(settings.get("seed")) is not int:
        raise ValueError("config.yaml is incomplete: it has no seed")
    overrides, swept = parse_overrides(info["overrides"]), parse_overrides(info["swept"])
    declared = {fields["name"]: Metric.from_dict(fields) for fields in info.get("metrics", ())}
    metrics = {f"val/{name}": metric for name, metric in (METRICS | declared).items()}
    evaluation = read_json(folder / EVALUATION).get("metrics", {})
    if not (isinstance(evaluation, dict) and all(map(is_metric, evaluation.values()))):
        raise ValueError(f"{EVALUATION}: metrics has an invalid value")
    metrics |= {f"evaluation/{name}": Metric.from_dict(fields) for name, fields in evaluation.items()}
    return Run(folder, overrides, swept, info, settings, read_numbers(folder), metrics)


def read_numbers(folder: Path) -> dict[str, Any]:
    """Return `metrics.json`, and the metrics of the evaluation as "evaluation/<evaluator>/<metric>".

    An unfinished run has none.

    Raises:
        ValueError: a metric or a cost is no number.
    """
    numbers = _known(read_json(folder / "metrics.json"))
    check_numbers("metrics.json", numbers)
    if numbers:
        evaluation = _known(read_json(folder / EVALUATION))
        check_numbers(EVALUATION, evaluation)
        numbers |= {f"evaluation/{name}": value for name, value in evaluation.items() if "/" in name}
    return numbers


def is_own_file(path: Path, folder: Path) -> bool:
    """Return whether a file is in the folder of its run, and no link to another place.

    The folder may come from someone else, and a page shows what the file has.
    """
    return path.resolve().is_relative_to(folder.resolve())


def parse_overrides(overrides: Iterable[str]) -> dict[str, str]:
    """Return the values of overrides such as "+optim.base_lr=0.1", by key."""
    split = (override.partition("=") for override in overrides)
    return {key.lstrip("+"): value for key, _, value in split}


def differing_keys(jobs: Iterable[Job]) -> list[str]:
    """Return the keys of overrides that were swept or differ between jobs, except for the seed."""
    jobs = list(jobs)
    swept = {key for job in jobs for key in job.swept}
    keys = [key for job in jobs for key in job.overrides if distinguishes_runs(key)]
    return [k for k in dict.fromkeys(keys) if k in swept or len({job.overrides.get(k) for job in jobs}) > 1]


def metrics_of(runs: Iterable[Run]) -> list[Metric]:
    """Return the metrics that runs log during training, sorted by section."""
    metrics = {name: metric for run in runs for name, metric in run.metrics.items()}
    return by_section_order(metric for name, metric in metrics.items() if name.startswith("val/"))


def group_by_setting(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Group runs that differ only in their seed. The names are the differing overrides, or the methods."""
    runs = list(runs)
    keys = differing_keys(runs)
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if set(keys) <= {"compare", "method"}:
            name = run.info["choices"]["method"]
        else:
            name = ", ".join(f"{key}={run.overrides[key]}" for key in keys if key in run.overrides)
        groups.setdefault(name or "default", []).append(run)
    return groups


def run_titles(runs: Sequence[Run]) -> list[str]:
    """Return setting and seed of each run, and the folder if these are not unique."""
    settings = {run.folder: name for name, group in group_by_setting(runs).items() for run in group}
    titles = [f"{settings[run.folder]}, seed {run.seed}" for run in runs]
    unique = [titles.count(title) == 1 for title in titles]
    return [t if u else f"{t} ({run.folder.name})" for t, u, run in zip(titles, unique, runs, strict=True)]


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """Return the entries without those that are null, such as a cost that is unknown."""
    return {key: value for key, value in values.items() if value is not None}


def _sort_key(path: Path) -> list[tuple[bool, str]]:
    return [(part.isdigit(), part.zfill(9) if part.isdigit() else part) for part in path.parts]
