"""A scene as numbers: a ground, and two things on it."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

FINE = 20  # control points an image side of the finest noise

Noise = Float32[np.ndarray, f"{FINE} {FINE}"]


@dataclass(frozen=True, eq=False)
class Thing:
    """An object or a bystander: its cues, its pose, and the numbers in which its likes differ."""

    outline: str
    pattern: str
    colors: Float32[np.ndarray, "3 3"]  # two of the surface, one of the rim; RGB, about 0-1
    center: tuple[float, float]  # x and y, in image sides
    cover: float  # share of the image's area inside the outline, a hole included
    turn: float  # of outline and pattern, in full turns
    lobes: int  # corners, petals or rays
    stretch: float  # 0-1, how far the outline is from its plainest form
    fineness: float  # of the pattern, about 1
    phase: float  # of the pattern, radians
    light: float  # direction the light comes from, radians
    noise: Noise  # of irregular outlines and patterns

    @property
    def scale(self) -> float:
        """Radius of the disc that covers as much, in image sides."""
        return math.sqrt(self.cover / math.pi)


@dataclass(frozen=True, eq=False)
class Ground:
    """The background: its kind and the numbers in which its likes differ."""

    kind: str
    colors: Float32[np.ndarray, "3 3"]  # RGB, 0-1
    direction: float  # radians
    level: float  # 0-1, of the horizon or the water
    noise: Noise  # of the grain; its corners serve the two coarse fields


@dataclass(frozen=True, eq=False)
class Scene:
    """All that `render` needs: the ground, and the things on it in the order of painting."""

    ground: Ground
    things: tuple[Thing, Thing]
