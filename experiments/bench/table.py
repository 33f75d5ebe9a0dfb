"""Write docs/benchmarks.md from all results: `PYTHONPATH=experiments python -m bench.table`.

`make docs` runs it; tests/test_benchmarks.py fails if the page is not current.
"""

from pathlib import Path
from typing import Any

from bench.ledger import RESULTS, read

EXPERIMENTS = RESULTS.parents[1]
FILE = EXPERIMENTS.parent / "docs" / "benchmarks.md"
EARLIER = RESULTS.with_name("earlier.md")  # measurements whose scripts no longer exist
INTRO = """<!-- Written by experiments/bench/table.py; run `make docs`. Do not edit. -->
# Benchmarks

Each table shows variants of one stage. Those with a ratio are measured in random order in the same run.
Times are medians over the rounds, with quartiles in brackets. *CPU* is the time of the processor, *wall* that
on the clock. *Ratio* is the speed relative to the baseline: above 1 is faster, below 1 is slower. *Floor* is
the least possible time, such as that of decoding alone. `make bench` measures everything on a CPU,
`make bench-gpu` on a GPU.
"""
CLAIMS = "| claim | limit | measured | predicted | |\n|---|---|---|---|---|\n"


def page(folder: Path = RESULTS) -> str:
    """Return the page with all results of a folder, and the scripts without a result."""
    paths = sorted(folder.glob("*.json"))
    missing = {path.stem.removeprefix("bench_") for path in EXPERIMENTS.glob("bench_*.py")}
    missing -= {path.stem for path in paths}
    parts = [INTRO, *map(report_text, paths)]
    if missing:
        scripts = ", ".join(f"`bench_{name}.py`" for name in sorted(missing))
        parts.append(f"## Not measured yet\n\n{scripts}\n")
    return "\n".join([*parts, EARLIER.read_text()])


def report_text(path: Path) -> str:
    """Return the section of one result."""
    result = read(path)
    title = result["bench"].replace("_", " ").capitalize()
    parts = [f"## {title}\n\n{result['description']}\n\n{_environment(result)}\n"]
    stages = list(dict.fromkeys(entry["stage"] for entry in result["entries"]))
    for stage in stages:
        parts.append(_stage(stage, [entry for entry in result["entries"] if entry["stage"] == stage]))
    if result["claims"]:
        parts.append(CLAIMS + "".join(map(_claim, result["claims"])))
    parts += [f"{note}\n" for note in result["notes"]]
    return "\n".join(parts)


def _environment(result: dict[str, Any]) -> str:
    env = result["environment"]
    commit = (env["git_commit"] or "unknown")[:10] + (
        "-dirty" if "dirty" in (env["git_commit"] or "") else ""
    )
    device = env["processor"] if env["device"] == "cpu" else f"{env['device']}, {env['processor']}"
    threads = f", {env['threads']} thread{'s' * (env['threads'] != 1)}" if env["threads"] else ""
    return (
        f"`{result['command']}`, {result['date']}, commit {commit}, {device}{threads}, load "
        f"{env['load_average']}, Python {env['python']}, torch {env['torch']}."
    )


def _stage(stage: str, entries: list[dict[str, Any]]) -> str:
    """Return the table of one stage; columns without a value are left out."""
    columns: dict[str, list[str]] = {stage: [entry["variant"] for entry in entries]}
    unit = entries[0]["unit"]
    columns[f"CPU, ms per {unit}"] = [_spread(entry["cpu"]) for entry in entries]
    columns[f"wall, ms per {unit}"] = [_spread(entry["wall"]) for entry in entries]
    columns[f"{unit}s per second"] = [_rate(entry) for entry in entries]
    columns["ratio"] = [f"{entry['ratio']:.2f}x" if _compared(entry) else "" for entry in entries]
    columns["baseline"] = [entry["baseline"] if _compared(entry) else "" for entry in entries]
    columns["floor, ms"] = ["" if entry["floor"] is None else _number(entry["floor"]) for entry in entries]
    for title in dict.fromkeys(title for entry in entries for title in entry["values"]):
        columns[title] = [_number(entry["values"].get(title)) for entry in entries]
    columns["note"] = [entry["note"] for entry in entries]
    columns = {title: cells for title, cells in columns.items() if any(cells)}
    rows = [list(columns), ["---"] * len(columns), *map(list, zip(*columns.values(), strict=True))]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _compared(entry: dict[str, Any]) -> bool:
    return bool(entry["ratio"]) and entry["baseline"] != entry["variant"]


def _spread(time: dict[str, float] | None) -> str:
    return f"{_number(time['median'])} ({_number(time['low'])} to {_number(time['high'])})" if time else ""


def _rate(entry: dict[str, Any]) -> str:
    time = entry[entry["clock"]]
    return _number(1000 / time["median"]) if time and time["median"] else ""


def _claim(claim: dict[str, Any]) -> str:
    outcome = {True: "holds", False: "**missed**", None: "not measured"}[claim["holds"]]
    unit = f" {claim['unit']}".rstrip()
    limit = f"{claim['direction']} {_number(claim['limit'])}{unit}"
    numbers = (_number(claim[name]) + unit * (claim[name] is not None) for name in ("measured", "predicted"))
    return f"| {claim['text']} | {limit} | {' | '.join(numbers)} | {outcome} |\n"


def _number(value: float | None) -> str:
    """Return three significant digits, without an exponent."""
    if value is None:
        return ""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{float(f'{value:.3g}'):.10f}".rstrip("0").rstrip(".")


if __name__ == "__main__":
    FILE.write_text(page())
