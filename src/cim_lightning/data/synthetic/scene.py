"""The parameters of a scene: a background and two objects."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

FINE = 20  # control points per image side of the finest noise

Noise = Float32[np.ndarray, f"{FINE} {FINE}"]


@dataclass(frozen=True, eq=False)
class SceneObject:
    """The labeled object or the distractor: its cues, its pose, and its individual shape and pattern."""

    outline: str
    pattern: str
    colors: Float32[np.ndarray, "3 3"]  # two of the surface, one of the rim; RGB, about 0-1
    center: tuple[float, float]  # x and y, in image sides
    area: float  # inside the outline, including holes, as a share of the image
    rotation: float  # of outline and pattern, in full turns
    lobes: int  # number of corners, petals or rays
    stretch: float  # 0-1, strength of the deviation from the simplest form of the outline
    frequency: float  # of the pattern, relative to PATTERNS
    phase: float  # of the pattern, radians
    light: float  # direction of the light source, radians
    noise: Noise  # of irregular outlines and patterns

    @property
    def scale(self) -> float:
        """Radius of the disc with the same area, in image sides."""
        return math.sqrt(self.area / math.pi)


@dataclass(frozen=True, eq=False)
class Background:
    """A background: its kind, and its individual colors and texture."""

    kind: str
    colors: Float32[np.ndarray, "3 3"]  # RGB, 0-1
    direction: float  # radians
    level: float  # 0-1, of the horizon or the water
    noise: Noise  # of the grain; two of its corners are the coarse noise


@dataclass(frozen=True, eq=False)
class Scene:
    """The input of `render`: the background, and the objects in drawing order."""

    background: Background
    objects: tuple[SceneObject, SceneObject]
