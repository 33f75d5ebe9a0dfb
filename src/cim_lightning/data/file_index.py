"""Paths of many files in a few arrays, which forked workers share."""

import hashlib
import os
from collections.abc import Iterable
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64, Integer, UInt64

from cim_lightning.data.byte_strings import equal_to_previous

CHUNK = 1 << 16  # names that are handled at a time: bounds the memory of temporary objects
SLASH = ord("/")


class FileIndex:
    """Names of files below one folder, without a Python object per file.

    A million names are some 50 MB. Forked workers share them: pages of `str` objects would be copied into
    each worker when their reference counts change. `take` and `below` share the bytes of the names.

    Args:
        root: folder of the files.
        names: the bytes of all names, one after another.
        bounds: int64 "n + 1"; name j is `names[bounds[j]:bounds[j + 1]]`.
        rows: numbers j of the files of this index, in its order; None: all files.
        skip: number of bytes that are left out at the beginning of each name.
    """

    def __init__(
        self,
        root: str,
        names: bytes,
        bounds: Int64[np.ndarray, "m"],
        rows: Int64[np.ndarray, "n"] | None = None,
        skip: int = 0,
    ):
        self.root, self._names, self._bounds, self._skip = root, names, bounds, skip
        self._rows = np.arange(len(bounds) - 1) if rows is None else rows

    @classmethod
    def from_names(cls, root: str, names: Iterable[str]) -> "FileIndex":
        """Return an index of names that are absolute, or relative to root, with "/" as the separator."""
        remaining, parts, lengths = iter(names), [b""], [np.zeros(0, np.int64)]
        while chunk := [os.fsencode(name) for name in islice(remaining, CHUNK)]:
            parts.append(b"".join(chunk))
            lengths.append(np.fromiter(map(len, chunk), np.int64, len(chunk)))
        return cls.from_lengths(root, b"".join(parts), np.concatenate(lengths))

    @classmethod
    def from_lengths(cls, root: str, names: bytes, lengths: Integer[np.ndarray, "n"]) -> "FileIndex":
        """Return the index of the bytes and lengths that `joined_names` returns."""
        return cls(root, names, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))

    def joined_names(self) -> tuple[bytes, Int64[np.ndarray, "n"]]:
        """Return the bytes of all names, one after another, and their lengths."""
        parts, lengths = zip((b"", np.zeros(0, np.int64)), *self._chunks(self._skip), strict=True)
        return b"".join(parts), np.concatenate(lengths)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> Int64[np.ndarray, "n"]:
        """Numbers of the files in the index that this one was taken from with `take` and `below`."""
        return self._rows

    def path(self, index: int) -> str:
        """Return the path of a file, including root.

        Raises:
            IndexError: the index is not in 0..len - 1.
        """
        return os.path.join(self.root, self.name(index))

    def name(self, index: int) -> str:
        """Return the name of a file, relative to root unless it is absolute.

        Raises:
            IndexError: the index is not in 0..len - 1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"file {index} of {len(self)}")
        row = self._rows[index]
        return os.fsdecode(self._names[self._bounds[row] + self._skip : self._bounds[row + 1]])

    def take(self, indices: Integer[np.ndarray, "k"]) -> "FileIndex":
        """Return the index of some files, in the order of `indices`.

        Raises:
            IndexError: an index is not in 0..len - 1.
        """
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"files {indices.min()}..{indices.max()} of {len(self)}")
        files = FileIndex(self.root, self._names, self._bounds, self._rows[indices], self._skip)
        if "name_hashes" in vars(self):
            vars(files)["name_hashes"] = self.name_hashes[indices]
        return files

    def below(self, folder: str) -> "FileIndex":
        """Return the files in root/folder, in the same order. Their names are relative to it.

        Args:
            folder: relative to root, with "/" as the separator; "." or "": all files.
        """
        if folder in (".", ""):
            return self
        prefix = os.fsencode(folder.rstrip("/") + "/")
        starts, ends = self._limits()
        inside = np.flatnonzero(ends - starts > len(prefix))
        for position, byte in enumerate(prefix):  # of few bytes; each step keeps the files that still match
            inside = inside[self._bytes[starts[inside] + position] == byte]
        root = os.path.join(self.root, folder.rstrip("/"))
        return FileIndex(root, self._names, self._bounds, self._rows[inside], self._skip + len(prefix))

    def first_folders(self) -> tuple[Int32[np.ndarray, "n"], list[str]]:
        """Return the number of each file's first-level folder, and the sorted names of these folders.

        Files directly in root, and absolute names, have the number -1.
        """
        starts, ends = self._limits()
        # Files of one folder are neighbors in the order of the rows, so few names become Python objects.
        order = np.argsort(self._rows, kind="stable")
        starts, ends = starts[order], ends[order]
        slashes = np.append(np.flatnonzero(self._bytes == SLASH), len(self._names))
        stops = slashes[np.searchsorted(slashes, starts)]
        lengths = np.where(stops < ends, stops - starts, 0)  # 0: directly in root, or absolute
        first_of_run = ~equal_to_previous(self._bytes, starts, lengths)
        runs = np.flatnonzero(first_of_run)
        folders = [self._names[starts[i] : starts[i] + lengths[i]] for i in runs]
        sorted_names = sorted(os.fsdecode(folder) for folder in set(folders) - {b""})
        number = {os.fsencode(name): i for i, name in enumerate(sorted_names)} | {b"": -1}
        numbers = np.empty(len(self), np.int32)
        numbers[order] = np.array([number[folder] for folder in folders], np.int32)[
            np.cumsum(first_of_run) - 1
        ]
        return numbers, sorted_names

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal hash of the names in their order. It does not depend on root."""
        names, lengths = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16)
        for part, sizes in self._chunks(self._skip):
            names.update(part)
            lengths.update(sizes.astype("<i8").tobytes())
        return hashlib.blake2b(names.digest() + lengths.digest(), digest_size=16).hexdigest()

    def whole_names(self) -> Iterable[bytes]:
        """Yield the names with which the index was made: `below` does not change them."""
        for first in range(0, len(self), CHUNK):
            rows = self._rows[first : first + CHUNK]
            for start, end in zip(self._bounds[rows].tolist(), self._bounds[rows + 1].tolist(), strict=True):
                yield self._names[start:end]

    @cached_property
    def name_hashes(self) -> UInt64[np.ndarray, "n"]:
        """Hashes of `whole_names`: the first eight bytes of BLAKE2b."""
        digests = bytearray()
        for name in self.whole_names():
            digests += hashlib.blake2b(name, digest_size=8).digest()
        return np.frombuffer(digests, "<u8").astype(np.uint64, copy=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the names of this index only, not those that it shares with others."""
        parts, lengths = zip((b"", np.zeros(0, np.int64)), *self._chunks(skip=0), strict=True)
        bounds = np.concatenate([[0], np.cumsum(np.concatenate(lengths), dtype=np.int64)])
        return FileIndex, (self.root, b"".join(parts), bounds, None, self._skip)

    @property
    def _bytes(self) -> np.ndarray:
        return np.frombuffer(self._names, np.uint8)

    def _limits(self) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
        """Return the first and the last position + 1 of each name."""
        return self._bounds[self._rows] + self._skip, self._bounds[self._rows + 1]

    def _chunks(self, skip: int) -> Iterable[tuple[bytes, Int64[np.ndarray, "k"]]]:
        """Yield the bytes and the lengths of some names at a time, without their first `skip` bytes."""
        starts, ends = self._bounds[self._rows] + skip, self._bounds[self._rows + 1]
        for first in range(0, len(self), CHUNK):
            start = starts[first : first + CHUNK]
            lengths = ends[first : first + CHUNK] - start
            offsets = np.cumsum(lengths) - lengths  # of each name in the chunk
            positions = np.repeat(start - offsets, lengths) + np.arange(lengths.sum())
            yield self._bytes[positions].tobytes(), lengths
