"""Outlines, patterns and palettes of objects, and kinds of backgrounds."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from cim_lightning.data.synthetic.scene import FINE, SceneObject

NUM_ANGLES = 512  # in a full turn: the resolution of outlines; a power of two
ANGLES = np.arange(NUM_ANGLES, dtype=np.float32) * np.float32(2 * np.pi / NUM_ANGLES)
COSINES = np.cos(ANGLES)
HARMONICS = np.stack([wave(k * ANGLES) / k for k in range(2, 6) for wave in (np.cos, np.sin)])  # of blobs
MIDDLE = 8  # control points per image side of the noise of patterns

Field = Float32[np.ndarray, "h w"]

# RGB of the two colors of a surface, and of its rim. The two colors differ in lightness, so patterns are
# visible in grayscale. They are swapped at random, so that the mean color does not predict the class.
PALETTES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "earth": ((0.45, 0.25, 0.12), (0.90, 0.78, 0.58), (0.25, 0.15, 0.10)),
    "sea": ((0.05, 0.30, 0.50), (0.60, 0.88, 0.90), (0.90, 0.95, 0.95)),
    "forest": ((0.10, 0.32, 0.15), (0.72, 0.85, 0.38), (0.35, 0.20, 0.10)),
    "fire": ((0.65, 0.10, 0.08), (0.98, 0.75, 0.25), (0.30, 0.05, 0.10)),
    "candy": ((0.75, 0.20, 0.50), (0.65, 0.92, 0.90), (0.98, 0.90, 0.95)),
    "night": ((0.15, 0.12, 0.35), (0.92, 0.85, 0.55), (0.05, 0.05, 0.15)),
    "ink": ((0.12, 0.12, 0.14), (0.90, 0.90, 0.88), (0.50, 0.50, 0.50)),
    "citrus": ((0.20, 0.55, 0.25), (0.98, 0.88, 0.30), (0.95, 0.50, 0.10)),
}


@dataclass(frozen=True, eq=False)
class Surface:
    """Coordinates of the pixels around an object. The unit is the radius of the disc of the same area."""

    u: Field
    v: Field
    radius: Field
    angle: np.ndarray  # int "h w", in 1 / NUM_ANGLES turns
    smooth: Callable[[int], Field]  # control points per image side -> noise of about unit variance


def _polygon(obj: SceneObject) -> np.ndarray:
    sector = 2 * np.pi / (3 + obj.lobes % 3)
    return 1 / np.cos(ANGLES % sector - sector / 2)


def _star(obj: SceneObject) -> np.ndarray:
    saw = np.abs((ANGLES * (obj.lobes / (2 * np.pi))) % 1 - 0.5)
    return 1 / (1 + (1.8 + 1.6 * obj.stretch) * saw)


def _leaf(obj: SceneObject) -> np.ndarray:
    reach = 1.35 + 0.25 * obj.stretch  # radius of two vertically shifted discs, which intersect in the leaf
    return np.sqrt(reach**2 - COSINES**2) - np.abs(np.sin(ANGLES))


def _blob(obj: SceneObject) -> np.ndarray:
    wave = obj.noise[0, : len(HARMONICS)] @ HARMONICS
    return 1 + (0.25 + 0.15 * obj.stretch) * wave.clip(-1.6, 1.6)


# Outlines: relative distance of the edge from the center at each of ANGLES.
OUTLINES: dict[str, Callable[[SceneObject], np.ndarray]] = {
    "ellipse": lambda obj: 1 / np.hypot(COSINES, (1.1 + 0.6 * obj.stretch) * np.sin(ANGLES)),
    "polygon": _polygon,
    "star": _star,
    "flower": lambda obj: 1 + (0.5 + 0.4 * obj.stretch) * np.abs(np.sin(ANGLES * (obj.lobes / 2))),
    "blob": _blob,
    "leaf": _leaf,
    "ring": lambda obj: np.ones_like(ANGLES),
    "crescent": lambda obj: np.ones_like(ANGLES),
}
HOLES = {"ring": (0.0, 0.45), "crescent": (0.55, 0.75)}  # distance from the center and radius, in radii

# Patterns: cycles per radius, and a function (surface, wave number, phase) -> about -1..1. Periods are long
# (about 10 of 64 pixels), so patterns are visible in small, blurred crops.
PATTERNS: dict[str, tuple[float, Callable[[Surface, float, float], np.ndarray]]] = {
    "stripes": (1.9, lambda s, k, phase: np.sin(k * s.u + phase)),
    "chevrons": (1.8, lambda s, k, phase: np.sin(k * (s.u + np.abs((s.v + phase) % 1.1 - 0.55)))),
    "dots": (1.6, lambda s, k, phase: np.cos(k * s.u + phase) + np.cos(k * s.v + phase) - 0.7),
    "checks": (1.2, lambda s, k, phase: 2 * np.sin(k * s.u + phase) * np.sin(k * s.v)),
    "mesh": (1.3, lambda s, k, phase: 2.8 * np.abs(np.sin(k * s.u)).clip(None, np.abs(np.sin(k * s.v))) - 1),
    "rings": (1.9, lambda s, k, phase: np.sin(k * s.radius + phase)),
    "spokes": (1.2, lambda s, k, phase: np.sin(round(k) * ANGLES + phase)[s.angle]),
    "marble": (1.0, lambda s, k, phase: np.sin(k * s.u + phase + 2.2 * s.smooth(MIDDLE))),
    "camouflage": (1.0, lambda s, k, phase: s.smooth(MIDDLE)),
    "speckle": (1.0, lambda s, k, phase: s.smooth(FINE) - 0.4),
}

# Backgrounds: share of the second color in each pixel (0-1), from coarse noise `n`, distance `d` along the
# background's direction (within 0.71 image sides of the middle) and level.
BACKGROUNDS: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "gradient": lambda n, d, level: 0.5 + d + 0.15 * n,
    "clouds": lambda n, d, level: 0.5 + 0.4 * n,
    "horizon": lambda n, d, level: 12 * (d + 0.1 * n + 0.5 * (level - 0.5)),
    "islands": lambda n, d, level: 4 * (n + level - 0.5),
    "dunes": lambda n, d, level: 0.5 + 0.5 * np.sin(1.5 * n + (8 + 8 * level) * d),
}
