"""Correlation panels over time, small enough to lie inside a page."""

import base64
import io
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from cim_lightning.report.runs import Run, names

WIDTH = 560  # pixels; a panel's exemplars still tell what they show
QUALITY = 75
MOST_FRAMES = 96  # of all the runs on a page together


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


def cards(runs: Sequence[Run]) -> str:
    """Every run's panels behind a slider, in HTML; nothing, if no run drew any."""
    drawn = [
        (name, some) for name, run in zip(names(runs), runs, strict=True) if (some := panels(run.folder))
    ]
    most = max(MOST_FRAMES // max(len(drawn), 1), 2)
    told = [_card(name, shown, len(some)) for name, some in drawn if (shown := frames(some, most))]
    return f'<div class="galleries">{"".join(told)}</div>' if told else ""


def _card(name: str, shown: Sequence[Frame], drawn: int) -> str:
    last = len(shown) - 1
    pictures = "".join(
        f'<img src="{frame.uri}" data-step="{frame.step}" alt="panel after {frame.step} steps"'
        f"{' hidden' if i < last else ''}>"
        for i, frame in enumerate(shown)
    )
    few = f" ({len(shown)} of {drawn} shown)" if len(shown) < drawn else ""
    slider = f'<input type="range" min="0" max="{last}" value="{last}" aria-label="step">'
    return (
        f"<figure><figcaption>{escape(name)}{few}</figcaption>{pictures}"
        f"<label>{slider}<output>step {shown[-1].step:,}</output></label></figure>"
    )
