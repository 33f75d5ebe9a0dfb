"""Labels in pre-training, or in the probe only: `python experiments/semi_supervised/run.py DATA OUT`.

DATA is CIFAR-10, with train/ and test/ and class folders. OUT receives the runs. `--methods`, `--shares`,
`--seeds` and `--petaflop` choose a part. For each method and seed, one run uses no labels. For each share of
labels, another run learns from them, and both are evaluated with the same labels. The script can be stopped
and started again: finished runs and evaluations are skipped. It ends with a table in Markdown.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

METHODS = ("cim", "masked_cim", "mae")
COLUMNS = {
    "linear/pooled": "probe, class token",
    "linear/mean": "probe, grid mean",
    "knn/pooled_k20": "k-NN, class token",
    "knn/mean_k20": "k-NN, grid mean",
    "label_accuracy": "own classifier",
}


def start(command: str, *overrides: str) -> None:
    """Run a command of this project, and stop if it fails."""
    print(command, *overrides, flush=True)
    subprocess.run([str(Path(sys.executable).with_name(command)), *overrides], check=True)


def pretrain(method: str, seed: int, labels: str, args: argparse.Namespace) -> Path:
    """Pre-train with a share of the labels ("null": without labels), and return the folder of the run."""
    folder = Path(args.out, f"{method}-{labels}-{seed}")
    if not (folder / "metrics.json").exists():  # written at the end
        start(
            "cim-pretrain",
            "experiment=compare/cifar10_cpu",
            f"compare=cifar10_cpu/{method}",
            "evaluation=[]",
            f"data.root={args.data}",
            f"budget.petaflop={args.petaflop}",
            f"method.labels={labels}",
            f"seed={seed}",
            f"output_dir={folder}",
        )
    return folder


def evaluate(run: Path, share: str) -> dict[str, float]:
    """Return the numbers of a run whose probe and k-NN use a share of the labels."""
    folder = run / f"evaluation-{share}"
    images = round(float(share) * 60_000) + 100  # more than have a label; those come first
    if not (folder / "metrics.json").exists():
        start(
            "cim-evaluate",
            f"checkpoint={run}",
            "evaluation=[knn,linear]",
            "evaluation.linear.epochs=50",
            *(f"evaluation.{name}.num_train={images}" for name in ("knn", "linear")),
            f"data.label_share={share}",
            f"output_dir={folder}",
        )
    numbers = json.loads((folder / "metrics.json").read_text())
    trained = json.loads((run / "metrics.json").read_text())
    own = {"label_accuracy": trained["val/label_accuracy"]} if "val/label_accuracy" in trained else {}
    return numbers | own


def cell(values: list[float]) -> str:
    """Return the mean and the standard deviation over the seeds; "" without values."""
    if not values:
        return ""
    return f"{statistics.fmean(values):.1f} ± {statistics.stdev(values) if len(values) > 1 else 0:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--shares", nargs="+", default=("0.01", "0.1"))
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--petaflop", type=float, default=0.03)
    args = parser.parse_args()
    rows: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    for seed in args.seeds:
        for method in args.methods:
            for share in args.shares:
                for labels in ("null", share):
                    numbers = evaluate(pretrain(method, seed, labels, args), share)
                    rows.setdefault((method, share, labels), []).append(numbers)
    print(f"| method | labels | in pre-training | {' | '.join(COLUMNS.values())} |")
    print(f"|{'---|' * (3 + len(COLUMNS))}")
    for (method, share, labels), runs in rows.items():
        used = "no" if labels == "null" else "yes"
        cells = [cell([numbers[column] for numbers in runs if column in numbers]) for column in COLUMNS]
        print(f"| {method} | {float(share):.0%} | {used} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
