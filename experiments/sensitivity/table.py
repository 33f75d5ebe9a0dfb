"""Print the variants of CIM as a table: `python experiments/sensitivity/table.py RESULTS.jsonl`."""

import json
import sys
from pathlib import Path
from typing import Any

COLUMNS = {  # heading -> number of a run, and digits after the point
    "exemplar sensitivity, %": ("val/exemplar_sensitivity", 1),
    "skill": ("val/skill", 3),
    "other exemplar": ("val/skill_other_exemplar", 3),
    "foreign exemplar": ("val/skill_swapped", 3),
    "foreign context": ("val/skill_other_context", 3),
    "position, %": ("val/variance_position", 0),
    "context, %": ("val/variance_context", 0),
    "exemplar, %": ("val/variance_exemplar", 0),
    "k-NN, grid": ("knn/mean_k20", 1),
    "k-NN, class token": ("knn/pooled_k20", 1),
    "probe, grid": ("linear/mean", 1),
    "probe, class token": ("linear/pooled", 1),
}


def row(record: dict[str, Any]) -> str:
    """Return the row of a variant; a number that it does not have is an empty cell."""
    if "error" in record:
        return f"| {record['name']} | {' '.join(record['error'])} |{' |' * (len(COLUMNS) - 1)}"
    numbers = record["numbers"]
    cells = [f"{numbers[key]:.{digits}f}" if key in numbers else "" for key, digits in COLUMNS.values()]
    return f"| {' | '.join((record['name'], *cells))} |"


def main(results: Path) -> None:
    print(f"| variant | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
    print("\n".join(row(json.loads(line)) for line in results.read_text().splitlines()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
