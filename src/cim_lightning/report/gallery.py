"""Correlation panels over time, small enough to lie inside a page."""

import base64
import io
import re
from pathlib import Path
from typing import NamedTuple

WIDTH = 560  # pixels; a panel's exemplars still tell what they show
QUALITY = 75


class Frame(NamedTuple):
    """A panel after so many steps, as a data URI."""

    step: int
    uri: str


def panels(folder: Path) -> list[tuple[int, Path]]:
    """The panels that a run has drawn, by step."""
    found = {path: re.fullmatch(r"step-(\d+)", path.stem) for path in (folder / "panels").glob("*.png")}
    return sorted((int(match[1]), path) for path, match in found.items() if match)


def frames(some: list[tuple[int, Path]], most: int) -> list[Frame]:
    """At most so many (two or more), evenly chosen from first to last; what cannot be read is passed over."""
    from PIL import Image

    n = len(some)
    kept = range(n) if n <= most else sorted({round(i * (n - 1) / (most - 1)) for i in range(most)})
    shown = []
    for step, path in (some[i] for i in kept):
        try:
            with Image.open(path) as picture:
                small = picture.convert("RGB")
        except OSError:  # a run may be drawing it right now
            continue
        if small.width > WIDTH:
            size = (WIDTH, round(small.height * WIDTH / small.width))
            small = small.resize(size, Image.Resampling.LANCZOS)
        held = io.BytesIO()
        small.save(held, "WEBP", quality=QUALITY)
        shown.append(Frame(step, "data:image/webp;base64," + base64.b64encode(held.getvalue()).decode()))
    return shown
