"""Images per second from files, from tar archives and from a Hugging Face data set, in random order.

`python experiments/bench_archives.py /dev/shm/bench` makes 20,000 JPEG files of 64 pixels, the same files in
8 archives, and the same rows in Arrow files. Everything is in memory, and the numbers are of processor time.
Results: experiments/benchmarks.md.
"""

import argparse
import contextlib
import io
import logging
import os
import shutil
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

from cim_lightning.data.folder import folder
from cim_lightning.data.hf_dataset import hf
from cim_lightning.data.pixel_format import RGB8
from cim_lightning.data.tar_set import read_set
from cim_lightning.data.webdataset import webdataset

CLASSES, ARCHIVES, RUNS = 100, 8, 5


def make_files(root: Path, count: int) -> None:
    """Write the files, the archives and the rows below a folder."""
    rng = np.random.default_rng(0)
    rows: dict[str, list] = {"image": [], "label": []}
    with contextlib.ExitStack() as stack:
        archives = [stack.enter_context(tarfile.open(root / f"{i}.tar", "w")) for i in range(ARCHIVES)]
        for i in range(count):
            data = io.BytesIO()
            blocks = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
            blocks.resize((64, 64), Image.Resampling.BICUBIC).save(data, "JPEG", quality=90)
            path = root / "files" / f"{i * CLASSES // count:03d}" / f"{i:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.getvalue())
            archives[i % ARCHIVES].add(path, path.relative_to(root / "files"))
            rows["image"].append(data.getvalue())
            rows["label"].append(path.parent.name)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features).save_to_disk(root / "rows")


def images_per_second(read: Callable[[int], object], count: int) -> str:
    """Return the median of all runs, and the slowest and the fastest one, per second of processor time."""
    rates = []
    for run in range(RUNS):
        order = np.random.default_rng(run).permutation(count).tolist()
        started = time.process_time()
        for i in order:
            read(i)
        rates.append(count / (time.process_time() - started))
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="is made, and removed at the end")
    parser.add_argument("--images", type=int, default=20_000)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    args.folder.mkdir(parents=True)
    try:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["XDG_CACHE_HOME"] = cache
            make_files(args.folder, args.images)
            report(args.folder)
    finally:
        shutil.rmtree(args.folder)


def report(root: Path) -> None:
    files = folder(str(root / "files"), 0.5, 0, RGB8, val="none").train
    read_set([str(root / "0.tar")], [""], RGB8.suffixes)  # imports
    started = time.process_time()
    tars = webdataset(str(root / "*.tar"), 0.5, 0, RGB8, val="none").train
    microseconds = 1e6 * (time.process_time() - started) / len(tars)
    print(f"listing the archives: {microseconds:.0f} microseconds per image\n")
    rows = hf(str(root / "rows"), None, None, None, None, None, "none", 0.5, 0, RGB8).train
    for i in range(0, len(files), 997):
        assert files[i][0].tobytes() == tars[i][0].tobytes() == rows[i][0].tobytes()
        assert files[i][1] == tars[i][1] == rows[i][1]
    places = [tuple(map(int, place)) for place in zip(*tars.places, strict=True)]
    reads = {
        "files": (lambda i: Path(files.path(i)).read_bytes(), files),
        "tar archives": (lambda i: tars.archives.read(*places[i]), tars),
        "rows of Arrow files": (lambda i: rows.dataset[i], rows),
    }
    print("| source | read | read and decoded |\n|---|---|---|")
    for name, (read, source) in reads.items():
        rates = (images_per_second(function, len(files)) for function in (read, source.__getitem__))
        print(f"| {name} | {' | '.join(rates)} |", flush=True)


if __name__ == "__main__":
    main()
