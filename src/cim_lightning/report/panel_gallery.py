"""Correlation panels over training, small enough to be part of a page."""

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from cim_lightning.report.curves import evenly_spaced
from cim_lightning.report.runs import Run, run_titles

WIDTH = 560  # pixels; wide enough to recognize the exemplars
QUALITY = 75
MAX_FRAMES = 96  # of all runs on a page


class Frame(NamedTuple):
    """A panel after a number of steps, as a data URI."""

    step: int
    uri: str


class Gallery(NamedTuple):
    """Frames of one run, and the number of panels that the run drew."""

    title: str
    frames: list[Frame]
    drawn: int


def panels(folder: Path) -> list[tuple[int, Path]]:
    """Return step and path of the panels of a run, sorted by step."""
    matches = {path: re.fullmatch(r"step-(\d+)", path.stem) for path in (folder / "panels").glob("*.png")}
    return sorted((int(match[1]), path) for path, match in matches.items() if match)


def frames(panels: Sequence[tuple[int, Path]], count: int) -> list[Frame]:
    """Return at most `count` panels, evenly spaced, without unreadable ones."""
    frames = []
    for step, path in evenly_spaced(panels, count):
        try:
            with Image.open(path) as picture:
                image = picture.convert("RGB")
        except OSError:  # a running job may be writing it
            continue
        image.thumbnail((WIDTH, image.height), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=QUALITY)
        uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
        frames.append(Frame(step, uri))
    return frames


def galleries(runs: Sequence[Run]) -> list[Gallery]:
    """Return one gallery per run that drew panels."""
    drawn = [(title, panels(run.folder)) for title, run in zip(run_titles(runs), runs, strict=True)]
    count = max(MAX_FRAMES // max(sum(bool(paths) for _, paths in drawn), 1), 2)
    made = (Gallery(title, frames(paths, count), len(paths)) for title, paths in drawn)
    return [gallery for gallery in made if gallery.frames]
