"""A DataLoader that ends with one line where torch's waits forever or raises an unclear error."""

import functools
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from torch.utils.data import DataLoader, Dataset

from cim_lightning import stop_signals
from cim_lightning.data.bad_images import BadImages
from cim_lightning.data.reading import Reading, image_name
from cim_lightning.data.workers import IgnoreSignals, collate_shared, explain_failure
from cim_lightning.errors import LoadingError

END = object()
AGAIN = 1.0  # seconds until an alarm that a library swallowed is repeated
MAX_NAMES = 3  # images in the message about a time limit


class Loading(NamedTuple):
    """How batches are loaded."""

    num_workers: int  # decoding processes; 0: decode in this process
    timeout: float | None  # seconds to wait for a batch; None: no limit
    bad_images: BadImages | None = None  # gets the images that cannot be decoded, and limits their share


def whole_batch(batch: Any) -> Any:
    """Return the batch that `__getitems__` of a data set returned: a `collate` that changes nothing."""
    return batch


class Alarm(BaseException):
    """A time limit is over. Code that skips damaged images must not catch it."""


class BatchLoader(DataLoader[Any]):
    """Batches of a data set, by worker processes or in this process.

    Waiting for a batch ends after a time limit, at a signal (see `stop_signals`) and if a worker dies. torch
    notices a dead worker within 5 seconds, and only while it waits: at other times the error would interrupt
    a training step.

    Args:
        dataset: has the images in `source`, and notes what it reads in `reading`.
        collate: makes a batch of a list of samples, or of what `__getitems__` of the data set returns.
        batch_sampler: lists of keys of the data set.
        loading: number of workers and time limit.
        received: called with each batch.
        options: other arguments of DataLoader.

    Raises:
        LoadingError: while iterating: no batch within the time limit, or a worker failed.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        collate: Callable[[Any], Any],
        batch_sampler: Iterable[Any],
        loading: Loading,
        received: Callable[[Any], None] = lambda batch: None,
        **options: Any,
    ):
        num_workers, self.time_limit, _ = loading
        super().__init__(
            dataset,
            num_workers=num_workers,
            collate_fn=functools.partial(collate_shared, collate) if num_workers else collate,
            worker_init_fn=IgnoreSignals() if num_workers else None,
            batch_sampler=batch_sampler,  # pyright: ignore[reportArgumentType]
            **options,
        )
        self.reading, self.received = Reading(num_workers), received
        self.workers: list[BaseProcess] = []

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        with self._waiting():
            batches = self._start()
        while True:
            with self._waiting():
                batch = next(batches, END)
            if batch is END:
                return
            self.received(batch)
            yield batch

    def _start(self) -> Iterator[Any]:
        """Return torch's iterator. It starts the workers, unless persistent workers run."""
        data: Any = self.dataset
        data.reading = self.reading
        others, handler = multiprocessing.active_children(), signal.getsignal(signal.SIGCHLD)
        try:
            return super().__iter__()
        finally:
            started = [process for process in multiprocessing.active_children() if process not in others]
            self.workers = started or self.workers
            if threading.current_thread() is threading.main_thread() and handler is not None:
                signal.signal(signal.SIGCHLD, handler)  # torch's raises errors at any time

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        try:
            with stop_signals.interruptible(), _alarm(self.time_limit):
                yield
        except Alarm as alarm:
            error = explain_failure(alarm, self.workers, self.num_workers) or self._timeout()
            self._kill_readers()
            raise error from None
        except Exception as error:
            if explained := explain_failure(error, self.workers, self.num_workers):
                raise explained from error
            raise
        except BaseException:
            self._kill_readers()  # torch waits for each worker
            raise

    def _timeout(self) -> LoadingError:
        """Return the error that names the images being read."""
        source, found = getattr(self.dataset, "source", None), self.reading.indices()
        names = [image_name(source, index) for index in islice(found.values(), MAX_NAMES)]
        more = f" and {len(found) - len(names)} more" if len(found) > len(names) else ""
        which = f"while reading {', '.join(names)}{more}" if names else "and no image is being read"
        rule = f"no batch within this time (seconds), {which}"
        hint = f"check the drive, or try timeout={2 * (self.time_limit or 0):.10g}"
        return LoadingError("timeout", self.time_limit, rule, hint=hint)

    def _kill_readers(self) -> None:
        """Kill the workers whose reads do not end. The others may hold locks, and end by themselves."""
        readers = self.reading.indices()
        for worker in self.workers:
            if worker.pid in readers:
                worker.kill()


def read_within(source: Any, index: int, seconds: float | None) -> Any:
    """Return an image and label of a Source, read in this process without a loader.

    Raises:
        LoadingError: the read took longer than the time limit.
    """
    try:
        with _alarm(seconds):
            return source[index]
    except Alarm:
        rule = f"no image within this time (seconds), while reading {image_name(source, index)}"
        hint = f"check the drive, or try timeout={2 * (seconds or 0):.10g}"
        raise LoadingError("timeout", seconds, rule, hint=hint) from None


@contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """Raise Alarm in the block after some seconds, in the main thread of systems that have the signal."""
    is_main_thread = threading.current_thread() is threading.main_thread()
    if seconds is None or not is_main_thread or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise Alarm

    previous = signal.signal(signal.SIGALRM, ring)
    try:
        timer = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, *timer)
    finally:
        signal.signal(signal.SIGALRM, previous)
