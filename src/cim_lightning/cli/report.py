"""Behind `cim-report`: runs and sweeps, told in one page, a Markdown table and a CSV file."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cim_lightning.errors import ConfigError
from cim_lightning.report import comparison, failures, markdown
from cim_lightning.report.runs import read_begun


def run(arguments: Sequence[str] | None = None) -> None:
    """Writes the page of the folders that are named, and tells where it lies."""
    asked = _parser().parse_args(arguments)
    for folder in asked.folders:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: there is no such folder; try a run's or a sweep's output_dir")
    places = [folder.resolve() for folder in asked.folders]
    begun, ended = [read_begun(place) for place in places], [failures.read(place) for place in places]
    for folder, some, others in zip(asked.folders, begun, ended, strict=True):
        if len(places) > 1 and not some and not others:
            print(f"{folder}: holds no run of cim-pretrain", file=sys.stderr)
    runs = list({run.folder: run for some in begun for run in some}.values())
    failed = list({one.folder: one for some in ended for one in some}.values())
    if not runs and not failed:
        told = ", ".join(map(str, asked.folders))
        raise ConfigError(f"{told}: holds no run of cim-pretrain; try a run's or a sweep's output_dir")
    path: Path = asked.output or (places[0] if len(places) == 1 else Path()) / "report.html"
    if path.suffix not in (".html", ".htm"):  # others would be written over by what lies beside the page
        raise ConfigError(f"--output={path}: a page ends in .html; try {path.with_suffix('.html')}")

    from cim_lightning.report.page import page

    title = ", ".join(place.name for place in places)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(title, runs, failed))
        path.with_suffix(".md").write_text(markdown.markdown(title, runs, failed))
        comparison.write_rows(runs, path.with_suffix(".csv"))
    except OSError as error:
        reason = f"cannot be written to ({error.strerror})"
        raise ConfigError(f"{path}: {reason}; try --output with a file of your own") from error
    finished = sum(run.finished for run in runs)
    unfinished = len(markdown.unfinished(runs, failed))
    told = f"{finished} finished and {unfinished} unfinished runs"
    print(f"{told}{f', {len(failed)} failed' if failed else ''}: {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("cim-report", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a run, or a folder of runs")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the page; DIR/report.html if not given, of several ./report.html",
    )
    return parser
