"""Rows of a list of images: a text file with one path per line, or a CSV, TSV or Parquet table."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from cim_lightning.data.given_path import GivenPath
from cim_lightning.data.optional_packages import require

LIST_SUFFIXES = (".txt", ".lst", ".csv", ".tsv", ".parquet")
# Names of columns in the order of preference, compared without case, spaces, "-" and "_".
PATHS = ("path", "filepath", "imagepath", "file", "filename", "imagefile", "image", "img", "imgpath")
LABELS = ("label", "class", "classname", "category", "target")
SPLITS = ("split", "subset", "partition")
DELIMITERS = ",;\t|"
LABEL_AT_END = re.compile(r"(.*\.\w+)[ \t]+(-?\d+)")  # of a line, as in the lists of ImageNet
FILE_NAME = re.compile(r".*\.\w{2,5}")


class Row(NamedTuple):
    """An image in a list. An empty text means that the list has no such value."""

    path: str
    label: str = ""
    split: str = ""


def read_rows(path: str, given: GivenPath) -> Iterator[Row]:
    """Yield the rows of a list; see docs/data.md for the formats.

    Args:
        path: of the list; its suffix decides.
        given: for errors.

    Raises:
        ConfigError: the list cannot be read, or no column has paths.
    """
    suffix = path.lower().rpartition(".")[2]
    try:
        if suffix == "parquet":
            yield from _parquet_rows(path, given)
        else:
            yield from _text_rows(path) if suffix in ("txt", "lst") else _table_rows(path, given)
    except (OSError, UnicodeError, csv.Error) as error:
        reason = " ".join(str(error).split())
        hint = "try a list in UTF-8" if isinstance(error, UnicodeError) else "check the file"
        raise given.error(f"cannot be read ({reason})", hint) from error


def _lines(path: str) -> Iterator[str]:
    """Yield lines. Names of files need not be UTF-8, so other bytes become surrogates, as in `os`."""
    with open(path, "rb") as file:
        utf16 = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
    encoding, errors = ("utf-16", "strict") if utf16 else ("utf-8-sig", "surrogateescape")
    with open(path, encoding=encoding, errors=errors, newline="") as file:
        yield from file


def _text_rows(path: str) -> Iterator[Row]:
    for line in map(str.strip, _lines(path)):
        name, tab, label = line.partition("\t")
        if not line or line.startswith("#"):
            continue
        if tab:
            yield Row(name.strip(), label.strip())
        else:
            match = LABEL_AT_END.fullmatch(line)
            yield Row(match[1], match[2]) if match else Row(line)


def _table_rows(path: str, given: GivenPath) -> Iterator[Row]:
    first = next(_lines(path), "")
    delimiter = "\t" if path.lower().endswith(".tsv") else max(DELIMITERS, key=first.count)
    rows = csv.reader(_lines(path), delimiter=delimiter, skipinitialspace=True)
    header = next(rows, [])
    if _column(header, PATHS) is None and header and FILE_NAME.fullmatch(header[0]):
        columns: list[int | None] = [0, 1, 2]  # a table without a header
        yield _row(header, columns)
    else:
        columns = _columns(header, given)
    yield from (_row(row, columns) for row in rows if any(row))


def _parquet_rows(path: str, given: GivenPath) -> Iterator[Row]:
    require("pyarrow", "parquet", ".parquet files")
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise OSError("no Parquet file") from error
    names = file.schema_arrow.names
    columns = [None if i is None else names[i] for i in _columns(names, given)]
    if pyarrow.types.is_nested(file.schema_arrow.field(columns[0]).type):
        raise given.error(f"has images, not paths, in the column {columns[0]}", "try data=hf")
    for batch in file.iter_batches(columns=[name for name in columns if name is not None]):
        cells = [
            batch.column(name).to_pylist() if name is not None else [None] * len(batch) for name in columns
        ]
        for values in zip(*cells, strict=True):
            yield Row(*("" if value is None else str(value) for value in values))


def _columns(header: Sequence[str], given: GivenPath) -> list[int | None]:
    """Return the numbers of the columns of paths, labels and splits; None if a table has none."""
    path = _column(header, PATHS)
    if path is None:
        rule = f"has no column path, file or image (its columns: {', '.join(header) or 'none'})"
        raise given.error(rule, "name the column of the files path")
    return [path, _column(header, LABELS), _column(header, SPLITS)]


def _column(header: Sequence[str], names: Iterable[str]) -> int | None:
    found = [re.sub(r"[\s_-]", "", name).lower() for name in header]
    return next((found.index(name) for name in names if name in found), None)


def _row(cells: Sequence[str], columns: Iterable[int | None]) -> Row:
    return Row(*("" if i is None or i >= len(cells) else cells[i].strip() for i in columns))
