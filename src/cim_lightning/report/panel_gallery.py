"""Correlation panels over training, small enough to be part of a page."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from cim_lightning.report.curves import evenly_spaced
from cim_lightning.report.runs import Run, is_own_file, run_titles

WIDTH = 560  # pixels; wide enough to recognize the exemplars
QUALITY = 75
MAX_FRAMES = 96  # of all runs on a page


class Gallery(NamedTuple):
    """Panels of one run as data URIs by step, and the number of panels that the run drew."""

    title: str
    frames: dict[int, str]
    drawn: int


def panels(folder: Path) -> list[tuple[int, Path]]:
    """Return step and path of the panels of a run, sorted by step, except links to other places."""
    paths = (path for path in (folder / "panels").glob("step-[0-9]*.png") if is_own_file(path, folder))
    return sorted((int(path.stem.removeprefix("step-")), path) for path in paths)


def frames(panels: Sequence[tuple[int, Path]], count: int) -> dict[int, str]:
    """Return at most `count` readable panels, evenly spaced, as data URIs by step."""
    uris = {}
    for step, path in evenly_spaced(panels, count):
        try:
            with Image.open(path, formats=("PNG",)) as picture:  # other formats can start programs
                image = picture.convert("RGB")
        except OSError:  # a running job may be writing it
            continue
        image.thumbnail((WIDTH, image.height), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=QUALITY)
        uris[step] = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return uris


def galleries(runs: Sequence[Run]) -> list[Gallery]:
    """Return one gallery per run that drew panels."""
    titles = zip(run_titles(runs), runs, strict=True)
    drawn = [(title, paths) for title, run in titles if (paths := panels(run.folder))]
    count = max(MAX_FRAMES // max(len(drawn), 1), 2)
    made = [Gallery(title, frames(paths, count), len(paths)) for title, paths in drawn]
    return [gallery for gallery in made if gallery.frames]
