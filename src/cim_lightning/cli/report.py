"""Compare runs and sweeps: one HTML page, with its tables in Markdown and CSV beside it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cim_lightning.atomic import atomic_write
from cim_lightning.errors import ConfigError
from cim_lightning.report import comparison, failures, lengths, markdown
from cim_lightning.report.runs import Run, read_runs

NO_RUN = "has no run of cim-pretrain"
TRY = "try the output_dir of a run or a sweep"


def run(arguments: Sequence[str]) -> None:
    """Write the page of the folders in the arguments, and print its path."""
    args = _parser().parse_args(arguments)
    folders = [folder.resolve() for folder in args.folders]
    runs, failed = {}, {}  # by folder, since one given folder can be inside another
    for given, folder in zip(args.folders, folders, strict=True):
        if not folder.is_dir():
            raise ConfigError(f"{given}: no such folder; {TRY}")
        found, found_failed = read_runs(folder), failures.read(folder)
        if len(folders) > 1 and not found and not found_failed:
            print(f"{given}: {NO_RUN}", file=sys.stderr)
        runs |= {run.folder: run for run in found}
        failed |= {failure.folder: failure for failure in found_failed}
    if not runs and not failed:
        raise ConfigError(f"{', '.join(map(str, args.folders))}: {NO_RUN}; {TRY}")
    runs, failed = [*runs.values()], [*failed.values()]
    path: Path = args.output or (folders[0] if len(folders) == 1 else Path()) / "report.html"
    if path.suffix not in (".html", ".htm"):  # the tables beside the page have the same name
        raise ConfigError("--output", path, "must end in .html", suggest=path.with_suffix(".html"))

    if args.reference is not None:
        _check_reference(args.reference, runs)

    from cim_lightning.report.page import page

    title = ", ".join(folder.name for folder in folders)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, page(title, runs, failed, args.reference))
        atomic_write(path.with_suffix(".md"), markdown.markdown(title, runs, failed, args.reference))
        comparison.write_csv(runs, path.with_suffix(".csv"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); try another --output") from error
    finished = sum(run.finished for run in runs)
    counts = f"{finished} finished and {len(markdown.unfinished(runs, failed))} unfinished runs"
    print(f"{counts}{f', {len(failed)} failed' if failed else ''}: {path}")


def _check_reference(reference: str, runs: Sequence[Run]) -> None:
    """Check that finished runs have the reference; print the lengths of training without one."""
    settings = {length: [*comparison.runs] for length, comparison in lengths.comparisons(runs).items()}
    names = [*dict.fromkeys(name for group in settings.values() for name in group)]
    if reference not in names:
        rule = "must be a setting with a finished run"
        raise ConfigError("--reference", reference, rule, hint=f"try one of: {'; '.join(names)}")
    for length, group in settings.items():
        if reference not in group:
            print(f"{length}: no differences, because no run of {reference} is finished", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("cim-report", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a run, or a folder of runs")
    output = "the page; default: DIR/report.html, or ./report.html for several folders"
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=output)
    reference = (
        "setting, such as a method, that the others are tested against; default: the best of each column"
    )
    parser.add_argument("-r", "--reference", metavar="NAME", help=reference)
    return parser
