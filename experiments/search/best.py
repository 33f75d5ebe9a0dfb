"""The best trial of each method: `python experiments/search/best.py SWEEP/table.csv`.

The score of a trial is the mean of k-NN and linear probe, each on the mean over the grid or on the class
token, whichever is better, and then the mean over the seeds of the trial.
"""

import csv
import statistics
import sys
from pathlib import Path

PARTS = ("k-NN, ", "probe, ")  # starts of the columns


def score(row: dict[str, str]) -> float | None:
    """Return the score of a row; None if a part was not evaluated."""
    parts = [[float(v) for name, v in row.items() if name.startswith(start) and v] for start in PARTS]
    return statistics.fmean(map(max, parts)) if all(parts) else None


def best(rows: list[dict[str, str]]) -> dict[str, tuple[str, float, int]]:
    """Return the settings of the best trial, its score and the number of trials, by method."""
    scores: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        settings = dict(part.split("=", 1) for part in row["setting"].split(", ") if "=" in part)
        method = settings.pop("compare", None) or settings.pop("method", "all")
        trial = " ".join(f"{key}={value}" for key, value in settings.items())
        if (value := score(row)) is not None:
            scores.setdefault(method, {}).setdefault(trial, []).append(value)
    means = {
        method: {trial: statistics.fmean(values) for trial, values in trials.items()}
        for method, trials in scores.items()
    }
    chosen = {method: max(trials, key=lambda trial: trials[trial]) for method, trials in means.items()}
    return {method: (trial, means[method][trial], len(means[method])) for method, trial in chosen.items()}


def main(table: Path) -> None:
    print("| method | trials | best | k-NN and probe, % |\n|---|---|---|---|")
    for method, (trial, value, count) in best(list(csv.DictReader(table.read_text().splitlines()))).items():
        print(f"| {method} | {count} | `{trial}` | {value:.1f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
