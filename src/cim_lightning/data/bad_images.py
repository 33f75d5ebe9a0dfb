"""The images of a run that cannot be decoded: one warning and one row of a CSV file per image."""

import contextlib
import csv
import fcntl
import io
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from cim_lightning.checks import check_share

log = logging.getLogger(__name__)
FILE = "bad_files.csv"  # in the folder of a run
COLUMNS = ("file", "reason")
MAX_WARNINGS = 10  # further images are listed in the file only
MAX_REASONS = 3  # in a summary
MESSAGE = 90  # characters of a reason in a summary


class BadImages:
    """Images that cannot be decoded, by name.

    Args:
        max_share: of the images that are read; see `BadShare`.

    Raises:
        ConfigError: the share is not in 0..1.
    """

    def __init__(self, max_share: float = 1.0):
        check_share("max_bad_share", max_share)
        self.max_share = max_share
        self.reasons: dict[str, str] = {}  # by name
        self.file: Path | None = None
        self._read_bytes = 0  # of the file
        self._warnings = 0

    def open(self, file: Path, keep: bool) -> None:
        """Write to a CSV file from now on.

        Several processes may write to it, and each image gets one row. A row is complete after a kill.

        Args:
            file: created with the first row.
            keep: whether its rows are of this run; otherwise they are removed.
        """
        if file == self.file:
            return
        self.file, self._read_bytes = file, 0
        found, self.reasons = self.reasons, {}
        if not keep:
            file.unlink(missing_ok=True)
        if found or file.exists():
            self._append(found)

    def add(self, name: str, reason: str) -> None:
        """Add an image: log a warning and write a row, unless it is known."""
        if name in self.reasons or (self.file is not None and not self._append({name: reason})):
            return
        self.reasons[name] = reason
        self._warnings += 1
        if self._warnings <= MAX_WARNINGS:
            log.warning("skipped an image: %r: %s", name, reason)
        if self._warnings == MAX_WARNINGS:
            where = f"are in {self.file}" if self.file else "get no warning"
            log.warning("further images that cannot be decoded %s", where)

    def count(self) -> int:
        """Return the number of images, of all processes."""
        if self.file is not None and self.file.exists():
            self._append({})
        return len(self.reasons)

    def log_count(self, num_images: int) -> None:
        """Log how many of all images could not be decoded, if any."""
        if count := self.count():
            log.warning(
                "%s of %s images could not be decoded: %s", f"{count:,}", f"{num_images:,}", self.file
            )

    def summary(self) -> str:
        """Return the most frequent reasons with their counts, each with an example, in one line."""
        kinds: Counter[str] = Counter()
        examples: dict[str, str] = {}
        for name, reason in self.reasons.items():
            kind = re.sub(r"\d+", "#", reason)  # such as the number of missing bytes
            kinds[kind] += 1
            examples.setdefault(kind, f"{_shorten(reason)} ({name!r})")
        parts = [f"{count:,} x {examples[kind]}" for kind, count in kinds.most_common(MAX_REASONS)]
        others = len(kinds) - len(parts)
        return ", ".join([*parts, *([f"{others} other reasons"] if others else [])])

    def _append(self, images: dict[str, str]) -> dict[str, str]:
        """Read the rows of other processes; write, and return, the images without a row."""
        assert self.file is not None
        with self.file.open("ab+") as file, _locked(file):
            file.seek(self._read_bytes)
            content = file.read()
            if not content.endswith(b"\n"):  # a machine stopped while it wrote
                content = content[: content.rfind(b"\n") + 1]
                file.truncate(self._read_bytes + len(content))
            for row in csv.reader(io.StringIO(_decode(content), newline="")):
                if len(row) == len(COLUMNS) and row != [*COLUMNS]:
                    self.reasons[row[0]] = row[1]
            new = {name: reason for name, reason in images.items() if name not in self.reasons}
            self.reasons |= new
            rows = [] if self._read_bytes + len(content) else [COLUMNS]
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([*rows, *new.items()] if new else [])
            added = _encode(text.getvalue())
            os.write(file.fileno(), added)
            self._read_bytes += len(content) + len(added)
        return new


def _shorten(reason: str) -> str:
    return reason if len(reason) <= MESSAGE else f"{reason[: MESSAGE - 3]}..."


def _encode(text: str) -> bytes:
    """Encode names of files, whose bytes may not be UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def _decode(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


@contextlib.contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    """Lock a file until it is closed, if its file system has locks."""
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)
    yield
