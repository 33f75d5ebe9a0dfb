"""The command line that all benchmarks share."""

import argparse
import os
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from bench.ledger import RESULTS, Report, write
from bench.table import report_text

Arguments = Callable[[argparse.ArgumentParser], None]


def options(argv: list[str], doc: str, add_arguments: Arguments | None = None) -> argparse.Namespace:
    """Parse the arguments of a benchmark.

    Args:
        argv: without the name of the script.
        doc: the docstring of the script.
        add_arguments: adds arguments that only this script has.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="samples per variant")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--data", type=Path, help="folder of images; default: images that the script makes")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, one round, no result; for tests")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    if add_arguments:
        add_arguments(parser)
    args = parser.parse_args(argv)
    if args.smoke:
        args.rounds = 1
    return args


def main(
    bench: str,
    measure: Callable[[argparse.Namespace], Report],
    doc: str,
    add_arguments: Arguments | None = None,
    argv: list[str] | None = None,
) -> Report:
    """Measure, print the tables, and write the result, except with --smoke.

    Args:
        bench: the name of the result, that of the script without "bench_".
        measure: returns entries and claims; gets rounds, threads, data, smoke and the added arguments.
        doc: the docstring of the script; its first paragraph is on the page docs/benchmarks.md.
    """
    argv = sys.argv[1:] if argv is None else argv
    args = options(argv, doc, add_arguments)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # of processes that the script starts
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(args.threads)
    report = measure(args)
    if args.smoke:
        args.results = args.results if args.results != RESULTS else None
    if args.results:
        shown = ["FOLDER" if before == "--data" else word for before, word in pairwise(["", *argv])]
        command = " ".join(["python", f"experiments/bench_{bench}.py", *shown])
        description = " ".join(doc.strip().partition("\n\n")[0].split())
        path = write(bench, report, description, command, args.results)
        print(report_text(path))
    return report
