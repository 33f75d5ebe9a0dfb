"""Record the first ten losses of methods: `python experiments/golden_curves.py NAME ...`.

The losses go to tests/methods/golden/NAME.json, and the tests compare with them. NAME is a method, or a
variant whose overrides have another method. For a new one, create the file with its overrides first:
{"overrides": ["decoder.width=32"]}. Record a curve again only for a change that is meant to change numbers,
and give the reason in the commit.
"""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

GOLDEN = {
    file.stem: file for file in (Path(__file__).parents[1] / "tests" / "methods" / "golden").glob("*.json")
}
COMMON = [
    "backbone=vit_micro_patch8",
    "backbone.kwargs.depth=2",
    "backbone.kwargs.embed_dim=32",
    "data.view_size=64",
    "data.batch_size=16",
    "data.num_workers=0",
    "data.source.num_train=160",
    "data.source.num_val=16",
    "optim.base_lr=0.05",
    "optim.warmup=0.2",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1",
    "logger=[csv]",
    "callbacks.knn=null",
    "callbacks.panels=null",
    "callbacks.best=null",
]


def read(method: str) -> dict[str, list]:
    """Return the overrides that make a method small, and its recorded losses."""
    return json.loads(GOLDEN[method].read_text())


def arguments(name: str, folder: Path) -> list[str]:
    """Return the arguments of `cim-pretrain` for ten steps of a method or variant."""
    recorded = read(name)
    return [f"method={recorded.get('method', name)}", *COMMON, *recorded["overrides"], f"output_dir={folder}"]


def losses(folder: Path) -> list[float]:
    """Return the training losses that a run logged."""
    rows = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    return [float(row["train/loss"]) for row in rows if row["train/loss"]]


def main(methods: list[str]) -> None:
    for method in methods or sorted(GOLDEN):
        with tempfile.TemporaryDirectory() as folder:
            command = str(Path(sys.executable).parent / "cim-pretrain")
            subprocess.run([command, *arguments(method, Path(folder))], check=True)
            curve = read(method) | {"losses": losses(Path(folder))}
        GOLDEN[method].write_text(json.dumps(curve, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
