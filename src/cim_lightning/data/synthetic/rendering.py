"""Render scenes to pixels, without randomness."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8

from cim_lightning.data.synthetic import cues
from cim_lightning.data.synthetic.cues import NUM_ANGLES
from cim_lightning.data.synthetic.scene import FINE, Background, Scene, SceneObject

COARSE = 5  # control points per image side of the noise of backgrounds
RIM = 0.025  # width of an object's rim, in image sides
SHADE = np.float32(0.22)  # increase of the brightness per radius towards the light


@dataclass(frozen=True, eq=False)
class Grid:
    """Precomputed arrays for all images of one size."""

    line: np.ndarray  # float32 "2s+1", offsets from -1 to 1 image side
    radius: np.ndarray  # float32 "2s+1 2s+1", distance from the center in image sides
    angle: np.ndarray  # int "2s+1 2s+1", in 1 / NUM_ANGLES turns
    weights: dict[int, np.ndarray]  # n control points per image side -> float32 "s n", interpolates noise


@lru_cache(maxsize=8)
def _grid(size: int) -> Grid:
    line = (np.arange(-size, size + 1) / size).astype(np.float32)
    angle = np.arctan2(line[:, None], line) * (NUM_ANGLES / (2 * np.pi))
    weights = {}
    for controls in (COARSE, cues.MIDDLE, FINE):
        gap = np.linspace(0, controls - 1, size)[:, None] - np.arange(controls)
        bell = np.exp(-0.5 * (gap / 0.6) ** 2)
        weights[controls] = (bell / np.linalg.norm(bell, axis=1, keepdims=True)).astype(np.float32)
    angle = angle.round().astype(np.intp) & (NUM_ANGLES - 1)
    return Grid(line, np.hypot(line[:, None], line), angle, weights)


def _direction(radians: float) -> tuple[np.float32, np.float32]:
    return np.float32(math.cos(radians)), np.float32(math.sin(radians))


def _smooth(noise: np.ndarray, grid: Grid, window: tuple[slice, ...] = (slice(None),) * 2) -> np.ndarray:
    """Interpolate noise at control points "n n" of the image to the pixels of a window."""
    weights = grid.weights[len(noise)]
    return weights[window[0]] @ noise @ weights[window[1]].T


def _blend(colors: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Blend colors "n 3" by shares "n h w" to "3 h w"."""
    return (colors.T @ shares.reshape(len(shares), -1)).reshape(3, *shares.shape[1:])


def _draw_background(background: Background, grid: Grid) -> np.ndarray:
    """Render the background, float32 "3 h w"."""
    line = grid.line[:-1:2] * np.float32(0.5)  # from -0.5 to 0.5 image sides
    across, down = _direction(background.direction)
    first = _smooth(background.noise[:COARSE, :COARSE], grid)
    second = _smooth(background.noise.T[5:][:COARSE, :COARSE], grid)
    grain = _smooth(background.noise, grid)
    shares = np.empty((3, *grain.shape), np.float32)
    distance = line * across + (line * down)[:, None]
    np.clip(cues.BACKGROUNDS[background.kind](first, distance, background.level), 0, 1, out=shares[1])
    np.clip(0.35 + 0.25 * second, 0, 1, out=shares[2])
    shares[0] = 1 - shares[1] - shares[2]
    return _blend(background.colors, shares) + np.float32(0.03) * grain


def _edge_distance(
    obj: SceneObject, outline: np.ndarray, radius: np.ndarray, angle: np.ndarray
) -> np.ndarray:
    """Return the distance to the edge along the ray from the center, in image sides; negative outside."""
    inside = outline[angle] - radius
    if obj.outline in cues.HOLES:
        away, hole = (np.float32(obj.scale * length) for length in cues.HOLES[obj.outline])
        squared = radius**2 + away**2 - radius * (2 * away * cues.COSINES)[angle]
        np.minimum(inside, np.sqrt(squared.clip(0)) - hole, out=inside)
    return inside


def _draw_object(canvas: np.ndarray, obj: SceneObject, grid: Grid) -> tuple[tuple[slice, ...], np.ndarray]:
    """Draw an object onto the canvas, float32 "3 h w", in place. Return its window and its opacity there."""
    size = canvas.shape[1]
    outline = cues.OUTLINES[obj.outline](obj)
    outline *= np.float32(obj.scale) / np.sqrt(outline @ outline / NUM_ANGLES)

    # Restrict the computation to the window with the object, in canvas and in grid coordinates.
    extent = int(outline.max() * size) + 2
    center = [round(position * size) for position in reversed(obj.center)]
    window = tuple(slice(max(c - extent, 0), min(c + extent, size)) for c in center)
    grid_window = tuple(
        slice(w.start + size - c, w.stop + size - c) for c, w in zip(center, window, strict=True)
    )
    radius = grid.radius[grid_window]
    angle = (grid.angle[grid_window] - round(obj.rotation * NUM_ANGLES)) & (NUM_ANGLES - 1)
    down, across = grid.line[grid_window[0], None] / obj.scale, grid.line[grid_window[1]] / obj.scale
    cosine, sine = _direction(2 * np.pi * obj.rotation)
    surface = cues.Surface(
        u=across * cosine + down * sine,
        v=down * cosine - across * sine,
        radius=radius / obj.scale,
        angle=angle,
        smooth=lambda controls: _smooth(obj.noise[:controls, :controls], grid, window),
    )
    cycles, pattern = cues.PATTERNS[obj.pattern]
    tone = (0.5 + 1.2 * pattern(surface, 2 * np.pi * cycles * obj.frequency, obj.phase)).clip(0, 1)
    lit_across, lit_down = _direction(obj.light)
    shade = across * (SHADE * lit_across) + (down * (SHADE * lit_down) + 1)

    inside = _edge_distance(obj, outline, radius, angle)
    opaque = (inside * size + 0.5).clip(0, 1)
    shares = np.empty((3, *opaque.shape), np.float32)
    np.multiply(opaque, (1.5 - inside / RIM).clip(0, 1), out=shares[2])
    body = (opaque - shares[2]) * shade
    np.multiply(body, tone, out=shares[1])
    np.subtract(body, shares[1], out=shares[0])
    patch = canvas[:, *window]
    patch *= 1 - opaque
    patch += _blend(obj.colors, shares)
    return window, opaque


def render(scene: Scene, image_size: int) -> UInt8[np.ndarray, "h w 3"]:
    """Render a scene as RGB of `image_size` x `image_size` pixels."""
    grid = _grid(image_size)
    canvas = _draw_background(scene.background, grid)
    for obj in scene.objects:
        _draw_object(canvas, obj, grid)
    canvas *= 255
    planes = canvas.clip(0, 255).astype(np.uint8)
    image = np.empty((image_size, image_size, 3), np.uint8)
    for channel in range(3):  # five times faster than a transposed copy
        image[..., channel] = planes[channel]
    return image


def visible_objects(scene: Scene, image_size: int) -> np.ndarray:
    """Return the index of the object that is visible in each pixel, as ints "h w"; -1 for the background."""
    grid, index = _grid(image_size), np.full((image_size, image_size), -1)
    canvas = np.zeros((3, image_size, image_size), np.float32)
    for i, obj in enumerate(scene.objects):
        window, opaque = _draw_object(canvas, obj, grid)
        index[window][opaque >= 0.5] = i
    return index
