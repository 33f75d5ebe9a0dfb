"""A folder of many images: scan, classes, split, shuffle, and the memory of the loader's workers.

The script makes empty files in 1,000 class folders: 200,000 by default, a million with `--full`, which need a
gigabyte of memory in a tmpfs. The suffix decides what is an image, so no file is opened.
"""

import argparse
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from bench.command_line import main
from bench.interleave import Samples, Timing
from bench.ledger import Entry, Report
from torch.utils.data import DataLoader, Dataset

from cim_lightning.data.changed_images import record
from cim_lightning.data.folder import folder
from cim_lightning.data.image_keys import image_keys, shuffled
from cim_lightning.data.pixel_format import RGB8
from cim_lightning.data.random_split import random_split
from cim_lightning.data.sampler import ResumableBatchSampler
from cim_lightning.data.source import NoImages, Splits

CLASSES, WORKERS, BATCH = 1000, 8, 100


class Opened(NamedTuple):
    """The time to open a folder, and the memory before and at most, in MB."""

    timing: Timing
    before: float
    peak: float


class Clock:
    """Measures the time since it was made."""

    def __init__(self) -> None:
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def timing(self) -> Timing:
        seconds = time.process_time() - self.cpu, time.perf_counter() - self.wall
        return Timing(*(Samples((1000 * value,)) for value in seconds))


class Paths(Dataset[str]):
    """Paths of images, by key (epoch, index)."""

    def __init__(self, path: Callable[[int], str]):
        self.path = path

    def __getitem__(self, key: tuple[int, int]) -> str:
        return self.path(key[1])


def make_files(root: Path, count: int) -> None:
    for number in range(min(CLASSES, count // 20)):
        path = root / f"n{number:08}"
        path.mkdir(parents=True, exist_ok=True)
        for i in range(number, count, min(CLASSES, count // 20)):
            os.mknod(path / f"n{number:08}_{i:08}.JPEG")


def memory(file: str, *fields: str) -> float:
    """Return the sum of some fields of a file in /proc/self, in MB."""
    text = Path("/proc/self", file).read_text()
    kilobytes = (re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE) for field in fields)
    return sum(int(match[1]) for match in kilobytes if match) / 1000


def private_memory() -> float:
    return memory("smaps_rollup", "Private_Clean", "Private_Dirty")


def open_and_shuffle(root: str) -> Opened:
    """Open the images of a folder and shuffle them, up to the first batch."""
    before, clock = memory("status", "VmRSS"), Clock()
    train = folder(root, 0.05, 0, RGB8).train
    next(iter(ResumableBatchSampler(image_keys(train), BATCH, 0, lambda: 0)))
    return Opened(clock.timing(), before, memory("status", "VmHWM"))


def key_times(root: str) -> dict[str, Timing]:
    """Return the time of what depends on the names of all images, from the cache of the scan."""
    train = folder(root, 0.05, 0, RGB8, train=".", val="none").train
    steps: dict[str, Callable[[], object]] = {
        "keys of the images": lambda: train.keys,
        "order of an epoch": lambda: shuffled(train.keys, 0, 0, 0),
        "random split": lambda: random_split(train.keys, 0.05, 0),
        "names in a checkpoint": lambda: record(Splits(train, NoImages())),
    }
    timings = {}
    for name, step in steps.items():
        clock = Clock()
        step()
        timings[name] = clock.timing()
    return timings


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--full", action="store_true", help="a million images")


def measure(args: argparse.Namespace) -> Report:
    count = 200 if args.smoke else 1_000_000 if args.full else 200_000
    # In smoke mode, without processes: their start takes longer than the rest.
    run = (lambda function, *args: function(*args)) if args.smoke else in_new_process
    environment = {"PYTHONWARNINGS": "ignore"}  # torch advises fewer workers on small machines
    memory_folder = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with (
        tempfile.TemporaryDirectory(dir=memory_folder) as root,
        tempfile.TemporaryDirectory() as cache,
        patch.dict(os.environ, environment | {"XDG_CACHE_HOME": cache}),
    ):
        make_files(Path(root), count)
        if not args.smoke:
            time.sleep(3)  # a folder that has just changed is not cached
        return report(root, count, run, () if args.smoke else ("none", "index", "list"))


def report(root: str, count: int, run: Callable[..., Any], kinds: Sequence[str]) -> Report:
    """Measure a folder of `count` images; `run` calls a function, in a process of its own."""
    entries = []
    for step in ("first run", "next run, from the cache"):
        opened = run(open_and_shuffle, root)
        values = {"memory before, MB": opened.before, "peak, MB": opened.peak}
        entries.append(Entry(f"folder of {count:,} images", step, opened.timing, values=values))
    for step, timing in run(key_times, root).items():
        entries.append(Entry(f"names of {count:,} images", step, timing))
    for kind in kinds:
        sizes = run(worker_memory, root, kind)
        values = {f"private memory of each of {WORKERS} workers, MB": statistics.median(sizes)}
        entries.append(Entry("paths in a worker", kind, values=values))
    return Report(entries)


if __name__ == "__main__":
    main("scan", measure, __doc__, add_arguments)
