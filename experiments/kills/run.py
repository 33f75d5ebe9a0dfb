"""Kill runs at random moments, resume them, and compare them with uninterrupted runs.

python experiments/kills/run.py WORK_FOLDER
"""

import argparse
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from compare import differences
from forked_runs import Kill, count_calls, fork_run, import_all, moments
from PIL import Image

RUNS = 50
MAX_KILLS = 3  # per run
CONFIGURATIONS = {
    "in process": ["data.num_workers=0"],
    "worker": ["data.num_workers=1"],
    "accumulation, max_steps": [
        "data.num_workers=0",
        "trainer.accumulate_grad_batches=2",
        "trainer.max_epochs=-1",
        "trainer.max_steps=9",
    ],
}
COMMON = [
    "backbone=vit_micro_patch4",
    "backbone.kwargs.depth=2",
    "backbone.kwargs.embed_dim=32",
    "+backbone.kwargs.drop_path_rate=0.5",
    "cropping=small",
    "data=folder",
    "data.view_size=32",
    "data.batch_size=8",
    "decoder.width=16",
    "decoder.num_heads=2",
    "optim.base_lr=0.1",
    "trainer=cpu",
    "trainer.max_epochs=3",
    "trainer.log_every_n_steps=1",
    "logger=[csv]",
    "callbacks.panels=null",
    "callbacks.last.every_minutes=0",  # a save after every step
    "output_dir=run",
]


class Result(NamedTuple):
    """A run that was killed and resumed."""

    configuration: str
    tmpfs: bool
    kills: list[dict[str, Any]]
    codes: list[int]  # exit codes of all processes
    different: list[str]


def main() -> None:
    """Run the campaign and write results.json beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tmpfs", type=Path, default=Path("/dev/shm"))
    args = parser.parse_args()
    images = make_images(args.folder / "images")
    start, results = time.monotonic(), []
    for result in campaign(args.folder, images, args.runs, args.seed, args.tmpfs):
        results.append(result)
        print(len(results), result.configuration, result.kills, result.codes, result.different, flush=True)
    content = {
        "runs": len(results),
        "equal": sum(not result.different for result in results),
        "kills": Counter(kill["at"] for result in results for kill in result.kills),
        "kills_that_hit": sum(code == -9 for result in results for code in result.codes),
        "runs_with_tmpfs": sum(result.tmpfs for result in results),
        "minutes": round((time.monotonic() - start) / 60, 1),
        "seed": args.seed,
        "results": [result._asdict() for result in results],
    }
    Path(__file__).with_name("results.json").write_text(json.dumps(content, indent=1) + "\n")


def campaign(folder: Path, images: Path, runs: int, seed: int, tmpfs: Path) -> Iterator[Result]:
    """Yield the results of all runs; a third is killed in saves, and a third has TMPDIR on a tmpfs."""
    torch.set_num_threads(1)
    import_all()
    generator = random.Random(seed)
    names = list(CONFIGURATIONS)
    straight = {name: count_calls(arguments(name, images), folder / "straight" / name) for name in names}
    for number in range(runs):
        name = names[number % len(names)]
        kinds = ("save", "during save") if number % 3 == 0 else ("time", "validation", "save", "during save")
        on_tmpfs = number // 3 % 3 == 1
        codes: list[int] = []
        while -9 not in codes:  # a moment may be later than the end
            kills = [
                moments(generator, *straight[name], generator.choice(kinds))
                for _ in range(generator.randint(1, MAX_KILLS))
            ]
            if number % 10 == 1:
                kills[0] = Kill("validation", 0)  # in the validation before training
            if number % 10 == 2:
                kills[0] = Kill("validation", straight[name][-1] - 1)  # in the last one
            shutil.rmtree(folder / str(number), ignore_errors=True)
            tmpdir = str(tmpfs) if on_tmpfs else None
            codes = kill_and_resume(folder / str(number), arguments(name, images), kills, tmpdir)
        different = differences(folder / "straight" / name / "run", folder / str(number) / "run")
        yield Result(name, on_tmpfs, [asdict(kill) for kill in kills], codes, different)


def arguments(configuration: str, images: Path) -> list[str]:
    """Return the arguments of `cim-pretrain`."""
    return [*COMMON, *CONFIGURATIONS[configuration], f"data.root={images.absolute()}"]


def kill_and_resume(
    folder: Path, overrides: Sequence[str], kills: Sequence[Kill], tmpdir: str | None
) -> list[int]:
    """Run until the end; each process but the last has a moment at which it is killed."""
    codes = [fork_run(overrides, folder, kill, tmpdir) for kill in kills]
    codes.append(fork_run(overrides, folder, None, tmpdir))
    return codes


def make_images(root: Path) -> Path:
    """Write 43 training and 9 validation images of two classes."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 43), ("val", 9)):
        for i in range(count):
            path = root / split / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            blocks = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)
            Image.fromarray(blocks).resize((40, 40)).save(path)
    return root


if __name__ == "__main__":
    main()
