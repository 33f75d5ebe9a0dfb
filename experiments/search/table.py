"""Print the trials of a search as a table: `python experiments/search/table.py TRIALS.jsonl ...`."""

import json
import sys
from pathlib import Path
from typing import Any

HEAD = (
    "| trial | settings | TFLOP | GFLOP/image | k-NN, grid / class token, % | probe, grid / class token, % |"
)


def row(record: dict[str, Any], shared: set[str]) -> str:
    """Return the row of a trial: the settings that not all trials share, the costs and the results."""
    settings = " ".join(setting for setting in record["overrides"] if setting not in shared)
    start = f"| {record['name']} | {settings} |"
    if "error" in record:
        return f"{start} {' '.join(record['error'])} | | | |"
    numbers = record["numbers"]
    flops = (numbers["forward_flops_per_image"] + numbers["backward_flops_per_image"]) / 1e9
    results = (
        " / ".join(f"{numbers[f'{name}{kind}']:.1f}" for kind in kinds)
        for name, kinds in (("knn/", ("mean_k20", "pooled_k20")), ("linear/", ("mean", "pooled")))
    )
    return f"{start} {flops * numbers['images_seen'] / 1e3:.1f} | {flops:.3f} | {' | '.join(results)} |"


def main(*files: Path) -> None:
    records = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    shared = set.intersection(*(set(record["overrides"]) for record in records))
    print(f"Shared settings: {' '.join(sorted(shared))}\n\n{HEAD}\n|---|---|---|---|---|---|")
    print("\n".join(row(record, shared) for record in records))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
