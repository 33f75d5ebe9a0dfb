"""Atomic writes: readers see either the old or the new content, also after a crash."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which replaces `path` in one step if the block ends without an error."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, content: Any) -> None:
    """Write plain values as indented JSON, atomically."""
    atomic_write(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; {} if the file does not exist."""
    return json.loads(path.read_text()) if path.exists() else {}


def update_json(path: Path, content: Mapping[str, Any]) -> None:
    """Add entries to the object in a JSON file; they replace entries with the same keys."""
    write_json(path, read_json(path) | dict(content))
