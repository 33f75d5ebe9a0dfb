"""Record the first ten losses of every method: `python experiments/golden_curves.py`.

It writes tests/methods/golden.json, which the tests compare with. Rerun it only for a change that is meant to
change numbers, and give the reason in the commit.
"""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "tests" / "methods" / "golden.json"
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
OWN = {
    "cim": ["cropping=half", "decoder=cross_attention_small"],
    "mae": ["cropping.mask_patch_size=8", "decoder.width=32", "decoder.depth=2", "decoder.num_heads=4"],
    "simmim": ["cropping.mask_patch_size=16"],
    "moco_v3": ["method.head.hidden_dim=64", "method.head.out_dim=16"],
    "dino": [
        "method.head.hidden_dim=64",
        "method.head.bottleneck_dim=16",
        "method.head.out_dim=128",
        "method.freeze_last_layer=0.3",
        "method.temperature_warmup=0.5",
        "cropping.num_local_crops=2",
        "cropping.local_crop.size=32",
    ],
    "supervised": [],
}


def arguments(method: str, folder: Path) -> list[str]:
    """Return the arguments of `cim-pretrain` for ten steps of a method."""
    return [f"method={method}", *COMMON, *OWN[method], f"output_dir={folder}"]


def losses(folder: Path) -> list[float]:
    """Return the training losses that a run logged."""
    rows = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    return [float(row["train/loss"]) for row in rows if row["train/loss"]]


def main() -> None:
    curves = {}
    for method in OWN:
        with tempfile.TemporaryDirectory() as folder:
            command = str(Path(sys.executable).parent / "cim-pretrain")
            subprocess.run([command, *arguments(method, Path(folder))], check=True)
            curves[method] = losses(Path(folder))
    GOLDEN.write_text(json.dumps(curves, indent=1) + "\n")


if __name__ == "__main__":
    main()
