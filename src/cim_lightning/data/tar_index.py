"""Contents of one tar archive, read from its headers."""

import json
import os
import posixpath
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from cim_lightning.data.folder_walk import HIDDEN
from cim_lightning.data.image_formats import decodable_suffixes
from cim_lightning.data.sniff import HEAD, SUFFIX, sniff
from cim_lightning.errors import ConfigError

BLOCK = tarfile.BLOCKSIZE
END = bytes(BLOCK)  # a block of zeros
MAX_SIZE = 8 << 30  # bytes of a file
MAX_LABEL_SIZE = 1 << 20  # bytes of a file with a label
LABEL_FIELDS = ("cls", "json")  # in the order of preference
# What makes random access impossible: compression and its first bytes.
COMPRESSIONS = {
    "gzip": b"\x1f\x8b",
    "bzip2": b"BZh",
    "xz": b"\xfd7zXZ",
    "zstd": b"\x28\xb5\x2f\xfd",
    "lz4": b"\x04\x22\x4d\x18",
}


class TarIndex(NamedTuple):
    """Images of one archive, in its order."""

    names: list[str]  # without a leading "./" or "/"
    offsets: list[int]  # of their bytes in the archive
    sizes: list[int]  # in bytes
    labels: list[str | None]  # as written in the archive
    skipped: Counter[str]  # other files, by reason
    damage: str  # why the rest of the archive cannot be read; empty: the archive is complete


def read_index(
    path: str,
    suffixes: Collection[str],
    counted: Callable[[Iterable[Any]], Iterable[Any]] = lambda members: members,
) -> TarIndex:
    """List the images of a tar archive and their labels.

    Samples are those of WebDataset: the files of a sample have the same key, and different fields (see
    key_and_field). A label is the text of the field `cls`, or the "label" in the field `json`.

    Hidden files are left out. Links, sparse files, empty files and files above 8 GB are skipped and counted.
    If the archive is truncated, the files before that are used.

    Args:
        suffixes: of images, in lower case.
        counted: called with the members; returns them and may show the progress.

    Raises:
        ConfigError: the archive is compressed.
        OSError: it cannot be read.
    """
    found = TarIndex([], [], [], [], Counter(), "")
    labels: dict[str, dict[str, str]] = {field: {} for field in LABEL_FIELDS}
    damage, missing_packages = "", decodable_suffixes()
    with open(path, "rb") as file:
        try:
            for member in counted(_members(file, path)):
                name = posixpath.normpath(member.name).lstrip("/")
                if member.isdir() or is_hidden(name):
                    continue
                key, field = key_and_field(name)
                suffix = posixpath.splitext(name)[1].lower()
                if reason := _unusable(member):
                    found.skipped[reason] += 1
                elif suffix in suffixes or (
                    not SUFFIX.fullmatch(suffix)
                    and sniff(os.pread(file.fileno(), min(HEAD, member.size), member.offset_data)) in suffixes
                ):
                    found.names.append(name)
                    found.offsets.append(member.offset_data)
                    found.sizes.append(member.size)
                elif field in labels and member.size <= MAX_LABEL_SIZE:
                    data = os.pread(file.fileno(), member.size, member.offset_data)
                    if label := _label(data, field):
                        labels[field][key] = label
                    elif label is None and field == "cls":  # a .json may have no label, but a caption
                        found.skipped["unreadable labels"] += 1
                else:
                    missing = missing_packages.get(suffix)
                    reason = f"{suffix} ({missing})" if missing else suffix or "no suffix"
                    found.skipped[reason] += 1
        except tarfile.TarError as error:
            damage = "truncated" if "end of data" in str(error) else " ".join(str(error).split())
    texts = labels["json"] | labels["cls"]
    found.labels.extend(texts.get(key_and_field(name)[0]) for name in found.names)
    return found._replace(damage=damage)


def key_and_field(name: str) -> tuple[str, str]:
    """Return the key of a sample and the field of a file: the parts of its name around a dot.

    It is the first dot that no digit follows: photo.left.png has the field left.png, but cat.0.png and
    version 2.1.png have the field png.
    """
    folder, slash, base = name.rpartition("/")
    stem, _, field = base.partition(".")
    while field[:1].isdigit() and "." in field:
        part, _, field = field.partition(".")
        stem = f"{stem}.{part}"
    return folder + slash + stem, field.lower()


def is_hidden(name: str) -> bool:
    """Return whether a file is hidden, or added by a system."""
    return any(part.startswith(".") or part in HIDDEN for part in name.split("/"))


def _members(file: BinaryIO, path: str) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive, or of several in one file, as `cat a.tar b.tar` makes.

    Raises:
        tarfile.TarError: the archive is damaged; the members before that are complete.
    """
    size = os.fstat(file.fileno()).st_size
    while True:
        try:
            tar: Any = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 -- the caller closes the file
        except tarfile.TarError as error:
            _refuse_compressed(file, path)
            raise tarfile.ReadError(f"not a tar archive ({error})" if size else "empty") from error
        while (member := tar.next()) is not None:
            tar.members.clear()  # they would take a kilobyte per member
            if member.isreg() and member.offset_data + member.size > size:
                raise tarfile.ReadError("truncated")
            yield member
        file.seek(tar.offset)
        if file.read(BLOCK) != END:
            raise tarfile.ReadError("truncated" if tar.offset + BLOCK > size else "damaged")
        while (block := file.read(BLOCK)) == END:
            pass
        if len(block) < BLOCK:
            return
        file.seek(-BLOCK, os.SEEK_CUR)


def _refuse_compressed(file: BinaryIO, path: str) -> None:
    file.seek(0)
    head = file.read(8)
    for compression, magic in COMPRESSIONS.items():
        if head.startswith(magic):
            rule = f"is compressed with {compression}, so its images cannot be read in random order"
            raise ConfigError("root", path, rule, hint=f"decompress it first ({compression} -d)")


def _unusable(member: tarfile.TarInfo) -> str:
    """Return why the content of a member cannot be read; empty if it can."""
    if member.issym() or member.islnk():
        return "links"
    if not member.isreg():
        return "devices and pipes"
    if member.issparse():
        return "sparse files"
    if not member.size:
        return "empty files"
    return "files above 8 GB" if member.size > MAX_SIZE else ""


def _label(data: bytes, field: str) -> str | None:
    """Return the label in the content of a label file: "" for none, None if it is unreadable."""
    try:
        if field == "cls":
            return _known(data.decode())
        content = json.loads(data)
        label = content.get("label") if isinstance(content, dict) else None
    except (UnicodeDecodeError, ValueError, RecursionError):
        return None
    is_label = isinstance(label, int | str) and not isinstance(label, bool)
    return _known(str(label)) if is_label else None


def _known(label: str) -> str:
    """Return a label without spaces around it; "" if it is a negative number, as in lists."""
    label = label.strip()
    return "" if re.fullmatch(r"-\d+", label) else label
