"""ImageFiles that are whole or not there: a run may be killed, and others read along while it goes on."""

from pathlib import Path


def atomic_write(path: Path, text: str) -> None:
    """Writes a text file beside its place, and moves it there in one step."""
    fresh = path.with_name(f".{path.name}.tmp")
    fresh.write_text(text)
    fresh.replace(path)
