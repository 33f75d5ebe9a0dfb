"""Waiting for a batch ends: reads that do not end, dead workers, full shared memory, signals."""

import multiprocessing
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset, Subset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from cim_lightning import stop_signals
from cim_lightning.data.loader import BatchLoader, Loading
from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.data.reading import Reading, image_name
from cim_lightning.data.workers import explain_failure
from cim_lightning.errors import BadImageError, LoadingError

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs the signals of POSIX")


class Files:
    """Names of images; `path` is optional in a Source."""

    def path(self, index: int) -> str:
        return f"/photos/{index}.jpg"


@dataclass
class Samples(Dataset[Any]):
    """Samples that are their keys. One key does something else first."""

    faults: dict[int, Any]
    source: Any = field(default_factory=Files)
    reading: Reading = field(default_factory=Reading)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, key: int) -> Any:
        with self.reading.image(key):
            self.faults.get(key, lambda: None)()
        return torch.tensor(key)


@pytest.fixture(autouse=True)
def fast_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch look for dead workers every 0.2 s instead of 5 s."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))


def make_loader(faults: dict[int, Any], workers: int, time_limit: float | None = None) -> BatchLoader:
    batches = [[key] for key in range(8)]
    options = {"persistent_workers": workers > 0}
    return BatchLoader(Samples(faults), torch.stack, batches, Loading(workers, time_limit), **options)


def hang() -> None:
    os.read(os.pipe()[0], 1)  # nobody writes


def die(number: int) -> Any:
    def kill() -> None:
        time.sleep(0.1)  # first, the queue sends the batch before
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)  # torch's handlers print
        os.kill(os.getpid(), number)

    return kill


def load(loader: BatchLoader) -> tuple[list[int], LoadingError]:
    """Return the samples before the error."""
    found: list[int] = []
    with pytest.raises(LoadingError) as caught:
        found.extend(batch.item() for batch in loader)
    return found, caught.value


def killed(loader: BatchLoader) -> int:
    """Return the number of killed workers; wait up to two seconds for the first one."""
    end = time.monotonic() + 2
    while loader.workers and time.monotonic() < end:
        if count := sum(worker.exitcode == -signal.SIGKILL for worker in loader.workers):
            return count
        time.sleep(0.01)
    return 0


@pytest.mark.parametrize("workers", [0, 2])
def test_all_batches_arrive_in_order_in_each_epoch(workers: int) -> None:
    loader = make_loader({}, workers, time_limit=60)
    assert [[batch.item() for batch in loader] for _ in range(2)] == [list(range(8))] * 2
    assert len(loader.workers) == workers
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.fault(
    "data",
    "a read that does not end, as on a drive whose network is gone",
    "after `data.timeout` seconds, one line names the images; the run is saved and exits with 1",
)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_read_that_does_not_end(workers: int) -> None:
    loader, start = make_loader({3: hang}, workers, time_limit=0.5), time.monotonic()
    found, error = load(loader)
    assert found == [0, 1, 2]
    assert str(error) == (
        "timeout=0.5: no batch within this time (seconds), while reading '/photos/3.jpg'; "
        "check the drive, or try timeout=1"
    )
    assert time.monotonic() - start < 4
    assert killed(loader) == (workers > 0)


def test_the_message_counts_further_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cim_lightning.data.loader.MAX_NAMES", 1)
    _, error = load(make_loader(dict.fromkeys(range(8), hang), 2, time_limit=0.5))
    assert error.rule.endswith("while reading '/photos/0.jpg' and 1 more")


def test_code_that_skips_damaged_images_does_not_catch_the_time_limit() -> None:
    def skip() -> None:
        try:
            hang()
        except Exception as error:
            raise BadImageError("skipped") from error

    assert load(make_loader({1: skip}, 0, time_limit=0.2))[0] == [0]


@pytest.mark.fault(
    "process",
    "a worker is killed, as by Linux if memory is short",
    "one line suggests fewer workers; the run is saved and exits with 1",
)
def test_a_killed_worker() -> None:
    found, error = load(make_loader({3: die(signal.SIGKILL)}, 2))
    assert found == [0, 1, 2]
    assert str(error) == (
        "num_workers=2: a worker was killed, as systems do if memory is short; try num_workers=1"
    )


def test_a_dead_worker_is_no_slow_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit may be over before torch looks for dead workers."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (5.0,))
    _, error = load(make_loader({0: lambda: os._exit(3)}, 1, time_limit=1))
    assert error.rule == "a worker ended with exit code 3"


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (die(signal.SIGSEGV), "a worker ended with SIGSEGV; try num_workers=0"),
        (lambda: os._exit(3), "a worker ended with exit code 3; try num_workers=0"),
        (die(signal.SIGBUS), "shared memory ("),
    ],
)
def test_a_worker_that_ends(fault: Any, line: str) -> None:
    assert line in str(load(make_loader({1: fault}, 1))[1])


def test_a_worker_dies_while_nobody_waits_for_it() -> None:
    """torch's handler of SIGCHLD would raise an error in the middle of a training step."""
    batches = iter(make_loader({1: die(signal.SIGKILL)}, 1))
    next(batches)
    time.sleep(0.5)
    with pytest.raises(LoadingError, match="a worker was killed"):
        next(batches)


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), EOFError(), FileNotFoundError(2, "")])
def test_the_connection_to_a_killed_worker_ends_before_its_exit_code_is_known(error: Exception) -> None:
    worker = multiprocessing.get_context("fork").Process(target=die(signal.SIGKILL))
    worker.start()
    explained = explain_failure(error, [worker], 1)
    assert explained is not None
    assert "a worker was killed" in str(explained)


@pytest.mark.fault(
    "process",
    "shared memory (`/dev/shm`) is full",
    "one line: `data.num_workers=0`, or more shared memory; the run is saved and exits with 1",
)
def test_full_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensor: Any) -> None:
        if tensor.tolist() == [2]:
            name = "</torch_12_34_0>: No space left on device (28)"
            raise RuntimeError(f"unable to allocate shared memory(shm) for file {name}")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    found, error = load(make_loader({}, 1))
    assert found == [0, 1]
    assert "is full, and the workers pass their batches through it; try num_workers=0, or enlarge" in str(
        error
    )


@pytest.mark.fault(
    "process",
    "the system starts no further process",
    "one line suggests fewer workers; exit code 1",
)
def test_workers_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    found, error = load(make_loader({}, 2))
    assert not found
    assert str(error).startswith("num_workers=2: the workers cannot be started (Resource temporarily")


def test_other_errors_of_a_data_set_are_unchanged() -> None:
    def fail() -> None:
        raise KeyError("x")

    for workers in (0, 1):
        with pytest.raises(KeyError):
            list(make_loader({1: fail}, workers))


@pytest.mark.fault(
    "signal",
    "SIGTERM while training waits for a read that does not end",
    "the run is saved and exits with 143 at once",
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_ends_the_wait(workers: int) -> None:
    loader = make_loader({2: hang}, workers)
    stop_signals.install()
    try:
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        start, found = time.monotonic(), []
        with pytest.raises(stop_signals.Stopped) as caught:
            found.extend(batch.item() for batch in loader)
        assert (found, caught.value.code) == ([0, 1], 128 + signal.SIGTERM)
        assert time.monotonic() - start < 3
        assert killed(loader) == workers
    finally:
        timer.cancel()
        stop_signals.uninstall()


def test_in_another_thread_the_loader_has_no_time_limit() -> None:
    found: list[int] = []
    loader = make_loader({}, 0, time_limit=1)
    thread = threading.Thread(target=lambda: found.extend(batch.item() for batch in loader))
    thread.start()
    thread.join()
    assert found == list(range(8))


def test_names_of_images() -> None:
    subset: Any = Subset(Files(), [5, 7])  # pyright: ignore
    assert image_name(Subset(subset, [1]), 0) == "'/photos/7.jpg'"
    assert image_name(object(), 3) == "image 3"


def test_an_image_is_noted_while_it_is_read() -> None:
    reading = Reading()
    with reading.image(4):
        assert reading.indices() == {os.getpid(): 4}
    assert not reading.indices()
    with pytest.raises(BadImageError), reading.image(4):
        raise BadImageError("damaged")
    assert not reading.indices()
    with pytest.raises(KeyboardInterrupt), reading.image(4):
        raise KeyboardInterrupt
    assert reading.indices() == {os.getpid(): 4}


@pytest.mark.fault(
    "data",
    "an image file is replaced by a named pipe during the training",
    "the image is reported and skipped; opening it does not wait for a writer",
)
@pytest.mark.parametrize("name", ["a.jpg", "a.npy", "a"])
def test_a_pipe_is_no_image(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(BadImageError, match=r"not a regular file"):
        PixelFormat().decode(str(tmp_path / name))
