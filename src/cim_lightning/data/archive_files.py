"""Write tar archives of images: in one step, read back, and the same bytes for the same images."""

import io
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cim_lightning.atomic import replacing, sync
from cim_lightning.errors import RunError


class Member(NamedTuple):
    """A file of an archive."""

    name: str
    offset: int  # of its content in the archive, in bytes
    size: int  # in bytes
    checksum: int  # CRC-32 of its content


class ArchiveWriter:
    """Adds files to a tar archive. Times and owners are left out, so equal files make equal archives."""

    def __init__(self, file: BinaryIO):
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 -- see close
        self.members: list[Member] = []

    def add(self, name: str, data: bytes) -> Member:
        """Add a file."""
        header = tarfile.TarInfo(name)
        header.size = len(data)
        self._tar.addfile(header, io.BytesIO(data))
        blocks = -(-len(data) // tarfile.BLOCKSIZE)
        self.members.append(
            Member(name, self._tar.offset - blocks * tarfile.BLOCKSIZE, len(data), zlib.crc32(data))
        )
        return self.members[-1]

    def close(self) -> None:
        """Write the end of the archive."""
        self._tar.close()


@contextmanager
def writing_archive(path: Path) -> Iterator[ArchiveWriter]:
    """Yield the writer of an archive, which gets its name after it was read back.

    Raises:
        RunError: the content on the disk differs from what was written.
    """
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            writer = ArchiveWriter(file)
            yield writer
            writer.close()
        sync(temporary)
        _verify(temporary, writer.members, path)


def _verify(temporary: Path, members: Iterable[Member], path: Path) -> None:
    """Compare names, places and checksums of an archive with what was written."""
    with temporary.open("rb") as file:
        if hasattr(os, "posix_fadvise"):  # read from the disk, not from memory
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if list(_read_members(file)) != list(members):
            rule = "the content on the disk differs from what was written; check the drive"
            raise RunError(f"{path}: {rule}, and run the same command again")


def _read_members(file: BinaryIO) -> Iterator[Member]:
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for header in tar:
                data = os.pread(file.fileno(), header.size, header.offset_data)
                yield Member(header.name, header.offset_data, header.size, zlib.crc32(data))
                tar.members.clear()  # type: ignore[attr-defined]
    except tarfile.TarError:
        return  # fewer members than expected
