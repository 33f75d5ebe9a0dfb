"""Progress of a scan of a folder."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

log = logging.getLogger(__name__)
BAR_AFTER = 1.0  # seconds until the bar appears
LOG_AFTER = 10.0  # seconds until the log line without a terminal
Entry = TypeVar("Entry")


class ScanProgress:
    """A bar on a terminal, if the scan takes more than a second; elsewhere one log line after ten seconds.

    A context manager: the bar disappears at its end.
    """

    def __init__(self, root: str):
        self.root, self.num_entries, self.logged = root, 0, False
        self.started = time.monotonic()
        self.bar = tqdm(desc="scan", unit=" files", delay=BAR_AFTER, leave=False, disable=None)

    def __enter__(self) -> "ScanProgress":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def counted(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield the entries of a folder."""
        for entry in entries:
            yield entry
            self.bar.update()
            self.num_entries += 1
            if self.bar.disable and not self.logged and time.monotonic() - self.started > LOG_AFTER:
                log.info("scanning %s: %s files so far", self.root, f"{self.num_entries:,}")
                self.logged = True
