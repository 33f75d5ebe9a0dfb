"""Scenes as pixels, without randomness."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8

from cim_lightning.data.synthetic.cues import (
    COSINES,
    GROUNDS,
    HOLES,
    MIDDLE,
    OUTLINES,
    PATTERNS,
    TURN,
    Surface,
)
from cim_lightning.data.synthetic.scene import FINE, Ground, Scene, Thing

COARSE = 5  # control points an image side of the noise of grounds
RIM = 0.025  # width of a thing's rim, in image sides
SHADE = np.float32(0.22)  # how much lighter a thing is a radius towards the light


@dataclass(frozen=True, eq=False)
class Grid:
    """What all images of one size share."""

    line: np.ndarray  # float32 "2s+1", offsets from -1 to 1 image side
    radius: np.ndarray  # float32 "2s+1 2s+1", distance from the middle in image sides
    angle: np.ndarray  # int "2s+1 2s+1", in 1 / TURN turns
    weights: dict[int, np.ndarray]  # control points n an image side -> float32 "s n", interpolating noise


@lru_cache(maxsize=8)
def _grid(size: int) -> Grid:
    line = (np.arange(-size, size + 1) / size).astype(np.float32)
    angle = np.arctan2(line[:, None], line) * (TURN / (2 * np.pi))
    weights = {}
    for controls in (COARSE, MIDDLE, FINE):
        gap = np.linspace(0, controls - 1, size)[:, None] - np.arange(controls)
        bell = np.exp(-0.5 * (gap / 0.6) ** 2)
        weights[controls] = (bell / np.linalg.norm(bell, axis=1, keepdims=True)).astype(np.float32)
    return Grid(line, np.hypot(line[:, None], line), angle.round().astype(np.intp) & (TURN - 1), weights)


def _direction(radians: float) -> tuple[np.float32, np.float32]:
    return np.float32(math.cos(radians)), np.float32(math.sin(radians))


def _smooth(noise: np.ndarray, grid: Grid, window: tuple[slice, ...]) -> np.ndarray:
    """Noise at control points "n n" of the image -> smooth noise at the pixels of a window of it."""
    weights = grid.weights[len(noise)]
    rows, columns = window
    return weights[rows] @ noise @ weights[columns].T


def _mix(colors: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Colors "n 3" in shares "n h w" -> "3 h w"."""
    return (colors.T @ shares.reshape(len(shares), -1)).reshape(3, *shares.shape[1:])


def _lay(ground: Ground, grid: Grid) -> np.ndarray:
    """The background, float32 "3 h w"."""
    line = grid.line[:-1:2] * np.float32(0.5)  # from -0.5 to 0.5 image sides
    across, down = _direction(ground.direction)
    whole = (slice(None), slice(None))
    first, second = (
        _smooth(corner[:COARSE, :COARSE], grid, whole) for corner in (ground.noise, ground.noise.T[5:])
    )
    grain = _smooth(ground.noise, grid, whole)
    shares = np.empty((3, *grain.shape), np.float32)
    distance = line * across + (line * down)[:, None]
    np.clip(GROUNDS[ground.kind](first, distance, ground.level), 0, 1, out=shares[1])
    np.clip(0.35 + 0.25 * second, 0, 1, out=shares[2])
    shares[0] = 1 - shares[1] - shares[2]
    return _mix(ground.colors, shares) + np.float32(0.03) * grain


def _inside(thing: Thing, outline: np.ndarray, radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """How far pixels are inside the edge along the ray from the center, in image sides; negative outside."""
    inside = outline[angle] - radius
    if thing.outline in HOLES:
        away, hole = (np.float32(thing.scale * length) for length in HOLES[thing.outline])
        squared = radius**2 + away**2 - radius * (2 * away * COSINES)[angle]
        np.minimum(inside, np.sqrt(squared.clip(0)) - hole, out=inside)
    return inside


def _paint(canvas: np.ndarray, thing: Thing, grid: Grid) -> None:
    """Draws a thing onto the canvas, float32 "3 h w", in place."""
    size = canvas.shape[1]
    outline = OUTLINES[thing.outline](thing)
    outline *= np.float32(thing.scale) / np.sqrt(outline @ outline / TURN)

    # Only the window that the thing can reach is computed: `here` on the canvas, `there` around the center.
    reach = int(outline.max() * size) + 2
    middle = [round(place * size) for place in reversed(thing.center)]
    here = tuple(slice(max(m - reach, 0), min(m + reach, size)) for m in middle)
    there = tuple(slice(h.start - m + size, h.stop - m + size) for h, m in zip(here, middle, strict=True))
    radius = grid.radius[there]
    angle = (grid.angle[there] - round(thing.turn * TURN)) & (TURN - 1)
    down, across = grid.line[there[0], None] / thing.scale, grid.line[there[1]] / thing.scale
    cosine, sine = _direction(2 * np.pi * thing.turn)
    surface = Surface(
        u=across * cosine + down * sine,
        v=down * cosine - across * sine,
        radius=radius / thing.scale,
        angle=angle,
        smooth=lambda controls: _smooth(thing.noise[:controls, :controls], grid, here),
    )
    cycles, pattern = PATTERNS[thing.pattern]
    tone = (0.5 + 1.2 * pattern(surface, 2 * np.pi * cycles * thing.fineness, thing.phase)).clip(0, 1)
    lit_across, lit_down = _direction(thing.light)
    shade = across * (SHADE * lit_across) + (down * (SHADE * lit_down) + 1)

    inside = _inside(thing, outline, radius, angle)
    opaque = (inside * size + 0.5).clip(0, 1)
    shares = np.empty((3, *opaque.shape), np.float32)
    np.multiply(opaque, (1.5 - inside / RIM).clip(0, 1), out=shares[2])
    body = (opaque - shares[2]) * shade
    np.multiply(body, tone, out=shares[1])
    np.subtract(body, shares[1], out=shares[0])
    patch = canvas[:, *here]
    patch *= 1 - opaque
    patch += _mix(thing.colors, shares)


def render(scene: Scene, image_size: int) -> UInt8[np.ndarray, "h w 3"]:
    """Draws a scene: RGB, `image_size` pixels a side."""
    grid = _grid(image_size)
    canvas = _lay(scene.ground, grid)
    for thing in scene.things:
        _paint(canvas, thing, grid)
    canvas *= 255
    planes = canvas.clip(0, 255).astype(np.uint8)
    image = np.empty((image_size, image_size, 3), np.uint8)
    for channel in range(3):  # a fifth of the time of a transposed copy
        image[..., channel] = planes[channel]
    return image
