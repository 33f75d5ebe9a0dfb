"""Time and memory for a folder of many images: scan, classes, split, shuffle, and workers of the loader.

`python experiments/bench_scan.py /dev/shm/many` makes a million empty files in 1,000 class folders, which
need a gigabyte of memory in a tmpfs. The suffix decides what is an image, so no file is opened. Results:
experiments/benchmarks.md.
"""

import argparse
import os
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from torch.utils.data import DataLoader, Dataset

from cim_lightning.data.changed_images import record
from cim_lightning.data.folder import folder
from cim_lightning.data.image_keys import image_keys, shuffled
from cim_lightning.data.pixel_format import RGB8
from cim_lightning.data.random_split import random_split
from cim_lightning.data.sampler import ResumableBatchSampler
from cim_lightning.data.source import NoImages, Splits

CLASSES, WORKERS, BATCH = 1000, 8, 500


class Paths(Dataset[str]):
    """Paths of images, by key (epoch, index)."""

    def __init__(self, path: Callable[[int], str]):
        self.path = path

    def __getitem__(self, key: tuple[int, int]) -> str:
        return self.path(key[1])


def make_files(root: Path, count: int) -> None:
    for number in range(CLASSES):
        path = root / f"n{number:08}"
        path.mkdir(parents=True)
        for i in range(number, count, CLASSES):
            os.mknod(path / f"n{number:08}_{i:08}.JPEG")


def memory(file: str, *fields: str) -> float:
    """Return the sum of some fields of a file in /proc/self, in MB."""
    text = Path("/proc/self", file).read_text()
    kilobytes = (re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE) for field in fields)
    return sum(int(match[1]) for match in kilobytes if match) / 1000


def private_memory() -> float:
    return memory("smaps_rollup", "Private_Clean", "Private_Dirty")


def open_and_shuffle(root: str) -> tuple[float, float, float, float]:
    """Return seconds and processor seconds until the first batch, memory before, and its peak."""
    before = memory("status", "VmRSS")
    started, processor_started = time.perf_counter(), time.process_time()
    train = folder(root, 0.05, 0, RGB8).train
    next(iter(ResumableBatchSampler(image_keys(train), BATCH, 0, lambda: 0)))
    seconds, processor = time.perf_counter() - started, time.process_time() - processor_started
    return seconds, processor, before, memory("status", "VmHWM")


def key_times(root: str) -> dict[str, float]:
    """Return the processor seconds of what depends on the names of all images, from the cache of the scan."""
    train = folder(root, 0.05, 0, RGB8, train=".", val="none").train
    steps: dict[str, Callable[[], object]] = {
        "keys of the images": lambda: train.keys,
        "order of an epoch": lambda: shuffled(train.keys, 0, 0, 0),
        "random split": lambda: random_split(train.keys, 0.05, 0),
        "names in a checkpoint": lambda: record(Splits(train, NoImages())),
    }
    seconds = {}
    for name, step in steps.items():
        started = time.process_time()
        step()
        seconds[name] = time.process_time() - started
    return seconds


def worker_memory(root: str, kind: str) -> list[float]:
    """Return the private memory of each worker after one epoch, in MB.

    Args:
        kind: "index": paths of the folder source; "list": the same paths as a list of str; "none": no paths.
    """
    files = folder(root, 0.05, 0, RGB8).train
    count = len(files)
    paths = [files.path(i) for i in range(count)] if kind == "list" else []
    path = {"index": files.path, "list": paths.__getitem__, "none": lambda index: "path"}[kind]
    order = ResumableBatchSampler(image_keys(files), BATCH, 0, lambda: 0)
    loader = DataLoader(
        Paths(path),
        batch_sampler=order,
        num_workers=WORKERS,
        multiprocessing_context="fork",
        collate_fn=lambda paths: (os.getpid(), private_memory()),
    )
    return [*dict(islice(loader, len(order))).values()]


def in_new_process(function: Callable, *args: str):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def main() -> None:
    os.environ["PYTHONWARNINGS"] = "ignore"  # torch advises fewer workers on small machines
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="is made, and removed at the end")
    parser.add_argument("--images", type=int, default=1_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        try:
            make_files(args.folder, args.images)
            time.sleep(3)  # a folder that has just changed is not cached
            report(str(args.folder))
        finally:
            shutil.rmtree(args.folder)


def report(root: str) -> None:
    print("| step | seconds | processor seconds | memory before, MB | peak, MB |\n|---|---|---|---|---|")
    for step in ("first run", "next run, from the cache"):
        seconds, processor, before, peak = in_new_process(open_and_shuffle, root)
        print(f"| {step} | {seconds:.2f} | {processor:.2f} | {before:.0f} | {peak:.0f} |")
    print("\n| step | processor seconds |\n|---|---|")
    for step, seconds in in_new_process(key_times, root).items():
        print(f"| {step} | {seconds:.2f} |")
    print(f"\n| paths | private memory of each of {WORKERS} workers, MB |\n|---|---|")
    for kind in ("none", "index", "list"):
        sizes = in_new_process(worker_memory, root, kind)
        print(f"| {kind} | {statistics.median(sizes):.1f} ({min(sizes):.1f} to {max(sizes):.1f}) |")


if __name__ == "__main__":
    main()
