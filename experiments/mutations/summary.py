"""Join the results of mutation runs and the reasons of the survivors: write results.json, print the tables.

    python experiments/mutations/summary.py BEFORE.jsonl... --after AFTER.jsonl...

`survivors.json` has a reason for each survivor; "equivalent: ..." means that no behavior changes.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FIELDS = ("path", "line", "function", "kind", "old", "new")


def key(record: dict[str, Any]) -> tuple[str, ...]:
    return tuple(record[field] for field in ("path", "function", "kind", "old", "new"))


def read(paths: list[Path]) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("before", type=Path, nargs="+")
    parser.add_argument("--after", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    later = {key(record): record for record in read(args.after)}
    reasons = json.loads((HERE / "survivors.json").read_text())
    rows, packages = [], defaultdict(list)
    for record in sorted(read(args.before), key=key):
        after = later.get(key(record), record)
        name = f"{record['path'].removeprefix('src/cim_lightning/')} {record['function']}: "
        name += f"{record['old']} -> {record['new']}"
        row = {field: record[field] for field in FIELDS}
        row |= {"before": record["outcome"], "after": after["outcome"], "test": after.get("test", "")}
        if after["outcome"] == "survived":
            row["reason"] = reasons.get(name, "")
            if not row["reason"]:
                print("no reason for", json.dumps(name))
        rows.append(row)
        packages[record["path"].split("/")[2]].append(row)
    packages["all"] = rows
    (HERE / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    print("| package | mutants | equivalent | caught before | caught after | share before | share after |")
    print("|---|---|---|---|---|---|---|")
    for package, found in packages.items():
        real = [row for row in found if not row.get("reason", "").startswith("equivalent")]
        counts = [sum(row[when] != "survived" for row in real) for when in ("before", "after")]
        shares = [f"{100 * count / len(real):.0f} %" for count in counts]
        cells = [package, len(found), len(found) - len(real), *counts, *shares]
        print(f"| {' | '.join(map(str, cells))} |")
    print("\n| survivor | line | change | reason |\n|---|---|---|---|")
    for row in rows:
        if row["after"] == "survived":
            change = f"`{row['old']}` -> `{row['new']}`".replace("|", "\\|").replace("\n", " ")
            path = row["path"].removeprefix("src/cim_lightning/")
            print(f"| `{path}` | {row['line']} | {change} | {row['reason']} |")


if __name__ == "__main__":
    main()
