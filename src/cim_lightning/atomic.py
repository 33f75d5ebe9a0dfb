"""Atomic files: a reader or a later run finds the old content or the new one, never a part of it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it replaces `path` in one step if the block ends without an error."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: Path, text: str) -> None:
    """Write a text file."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, content: Any) -> None:
    """Write plain values as indented JSON."""
    atomic_write(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one if there is no such file."""
    return json.loads(path.read_text()) if path.exists() else {}


def update_json(path: Path, content: Mapping[str, Any]) -> None:
    """Add to the object in a JSON file, or replace what it has under the same names."""
    write_json(path, read_json(path) | dict(content))
