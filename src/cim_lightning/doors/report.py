"""Behind `cim-report`: runs and sweeps, told in one page, a Markdown table and a CSV file."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cim_lightning.errors import SettingError
from cim_lightning.report import comparison
from cim_lightning.report.runs import Run, read_runs, read_unfinished


def run(arguments: Sequence[str] | None = None) -> None:
    """Writes the page of the folders that are named, and tells where it lies."""
    asked = _parser().parse_args(arguments)
    for folder in asked.folders:
        if not folder.is_dir():
            raise SettingError(f"{folder}: there is no such folder; nearest: a run's or a sweep's output_dir")
    finished, unfinished = (_all(asked.folders, read) for read in (read_runs, read_unfinished))
    if not finished and not unfinished:
        told = ", ".join(map(str, asked.folders))
        raise SettingError(f"{told}: holds no run of cim-pretrain; nearest: a run's or a sweep's output_dir")
    path: Path = asked.output or asked.folders[0] / "report.html"

    from cim_lightning.report.page import page

    title = ", ".join(folder.resolve().name for folder in asked.folders)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(title, finished, unfinished))
    path.with_suffix(".md").write_text(comparison.markdown(finished) + "\n")
    comparison.write_rows(finished, path.with_suffix(".csv"))
    print(f"{len(finished)} finished and {len(unfinished)} unfinished runs: {path}")


def _all(folders: Sequence[Path], read) -> list[Run]:
    """Every run once, though a sweep may be named beside one of its jobs."""
    runs = {run.folder: run for folder in folders for run in read(folder.resolve())}
    return list(runs.values())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("cim-report", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a run, or a folder of runs")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the page; DIR/report.html if not given"
    )
    return parser
