"""Mutation test: change the code in one place, and see whether a test fails.

    nice python experiments/mutations/run.py WORK_FOLDER --commit HEAD --total 300

Tests run in copies of the commit in WORK_FOLDER. Start the command again to resume, or twice for two workers.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from itertools import accumulate
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import isolated_pytest
from mutants import Mutant, mutants, sample

ROOT = Path(__file__).parents[2]
PACKAGES = ["evaluation", "methods", "cropping", "models", "data"]
# Folders and files of tests/. The rest is slow, or is not about these packages.
TESTS = ["cropping", "models", "data", "methods", "evaluation", "config/test_constructor_defaults.py"]
OTHER_SECONDS = 40.0  # of tests of a stage, the fastest first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--packages", nargs="+", default=PACKAGES)
    parser.add_argument("--tests", nargs="+", default=TESTS)
    parser.add_argument("--total", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--survivors", type=Path, help="a results.jsonl: only the mutants that survived there"
    )
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    tree = copy_of(args.commit, args.work / f"worker{os.getpid()}")
    isolated_pytest.preload()
    tests = trace(tree, args.tests, args.work / "trace")
    if args.survivors:
        chosen = survivors(args.survivors, tree)
    else:
        chosen = sample(tree, args.packages, args.total, args.seed)
    for i, mutant in enumerate(chosen):
        if claim(args.work / "claims" / str(i)):
            record = {"id": i, **mutant._asdict(), **evaluate(mutant, tree, tests)}
            with (args.work / "results.jsonl").open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(
                i, record["outcome"], f"{mutant.path}:{mutant.line}", mutant.old, "->", mutant.new, flush=True
            )


def survivors(path: Path, tree: Path) -> list[Mutant]:
    """Return the mutants of a results.jsonl that survived; the lines around them may have moved."""
    chosen = []
    for record in map(json.loads, path.read_text().splitlines()):
        if record["outcome"] == "survived":
            same = [
                mutant
                for mutant in mutants(tree / record["path"], tree)
                if all(record[key] == getattr(mutant, key) for key in ("function", "kind", "old", "new"))
            ]
            chosen += sorted(same, key=lambda mutant: abs(mutant.line - record["line"]))[:1]
    return chosen


def copy_of(commit: str, folder: Path) -> Path:
    """Check a commit out into a new folder."""
    subprocess.run(["git", "clone", "-q", "--shared", "-n", ROOT, folder], check=True)
    commit = subprocess.check_output(["git", "rev-parse", commit], cwd=ROOT, text=True).strip()
    subprocess.run(["git", "checkout", "-q", "--detach", commit], cwd=folder, check=True)
    return folder.resolve()


def claim(path: Path) -> bool:
    """Return whether this process is the first to claim a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.open("x").close()
    except FileExistsError:
        return False
    return True


def trace(tree: Path, folders: list[str], cache_folder: Path) -> dict[str, dict[str, Any]]:
    """Return the duration and the executed lines of every test; a folder caches them by test file."""
    paths = []
    for folder in (tree / "tests" / name for name in folders):
        paths += [folder] if folder.is_file() else sorted(folder.rglob("test_*.py"))
    paths = [str(path.relative_to(tree)) for path in paths]
    for path in paths:
        cache = cache_folder / f"{path.replace('/', '.')}.json"
        if claim(cache.with_suffix(".claim")):
            report = isolated_pytest.run(tree, [path], None, 900, trace=True)
            cleaned = json.loads(json.dumps(report).replace(f"{tree}/", ""))
            cache.write_text(json.dumps(cleaned))
            print(path, report["code"], report["failed"], flush=True)
    tests = {}
    for path in paths:
        cache = cache_folder / f"{path.replace('/', '.')}.json"
        while not cache.exists():  # another worker writes it
            time.sleep(1)
        traced = json.loads(cache.read_text())["tests"]
        tests |= {node: test for node, test in traced.items() if test["passed"]}
    return tests


def evaluate(mutant: Mutant, tree: Path, tests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the outcome of a mutant: killed (and by which test), timeout, or survived."""
    path, started = tree / mutant.path, time.monotonic()
    source, stat = path.read_bytes(), path.stat()
    try:
        path.write_bytes(mutant.apply(source))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + time.time_ns() % 10**15))  # no old bytecode
        for stage, nodes in enumerate(stages(mutant, tests)):
            seconds = 60 + 4 * sum(tests[node]["seconds"] for node in nodes)
            files = list(dict.fromkeys(node.partition("::")[0] for node in nodes))
            report = isolated_pytest.run(tree, files, nodes, seconds) if nodes else {"code": 0}
            if report["code"] != 0:
                outcome = "timeout" if report["code"] is None else "killed"
                result = {"outcome": outcome, "stage": stage, "test": report["failed"]}
                return result | {"seconds": round(time.monotonic() - started, 1)}
    finally:
        path.write_bytes(source)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    count = sum(map(len, stages(mutant, tests)))
    return {"outcome": "survived", "tests": count, "seconds": round(time.monotonic() - started, 1)}


def stages(mutant: Mutant, tests: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return the tests to run: those of the module, then of the package, then others, the fastest first.

    Tests that execute the changed lines come first. Then come tests that execute any line of the file: code
    that runs on import, or whose results are cached, is in no test's lines.
    """
    changed = set(range(mutant.line, mutant.last_line + 1))
    lines = {node: set(test["lines"].get(mutant.path, ())) for node, test in tests.items()}
    relative = Path(mutant.path).relative_to("src/cim_lightning")
    own = f"tests/{relative.parent}/test_{relative.name}::"
    groups: list[list[str]] = [[] for _ in range(6)]
    for node in sorted(tests, key=lambda node: tests[node]["seconds"]):
        if lines[node] or node.startswith(own):
            place = 0 if node.startswith(own) else 1 if node.startswith(f"tests/{relative.parts[0]}/") else 2
            groups[place if lines[node] & changed else 3 + place].append(node)
    return [*groups[:2], *(_within_budget(group, tests) for group in groups[2:])]


def _within_budget(nodes: list[str], tests: dict[str, dict[str, Any]]) -> list[str]:
    total = accumulate(tests[node]["seconds"] for node in nodes)
    return [node for node, seconds in zip(nodes, total, strict=True) if seconds < OTHER_SECONDS]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
