"""The embedded data set: labelled scenes made from numbers alone, without a file or a network.

A class is a distribution over three cues of an object: outline, pattern and palette. Classes share every
value of every cue, so that one cue says little and their combination nearly all. Background and a small
bystander are drawn independently of the class; the bystander is patterned too, so that whoever has to find
where a crop came from must tell surfaces apart, which is what tells classes apart.

A scene is sampled first (`sample_scene`: numbers only) and drawn second (`render`: no randomness).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from cim_lightning.errors import SettingError

# Each class: its outlines, patterns and palettes, the likeliest first.
CLASSES: dict[str, tuple[str, str, str]] = {
    "gem": ("polygon leaf ellipse", "checks stripes marble", "candy sea night"),
    "moon": ("crescent ring blob", "speckle camouflage rings", "night earth fire"),
    "kite": ("polygon star leaf", "stripes chevrons mesh", "fire citrus candy"),
    "shell": ("ellipse crescent flower", "rings spokes stripes", "earth candy ink"),
    "beetle": ("ellipse leaf polygon", "dots speckle checks", "forest night fire"),
    "leaf": ("leaf blob star", "marble mesh spokes", "forest citrus earth"),
    "urchin": ("star flower ring", "spokes dots speckle", "sea ink forest"),
    "button": ("ring ellipse crescent", "mesh checks dots", "ink fire citrus"),
    "puddle": ("blob polygon star", "camouflage rings chevrons", "sea forest ink"),
    "flower": ("flower ring blob", "chevrons marble camouflage", "citrus candy sea"),
}
PREFERENCE = (0.6, 0.25, 0.15)  # of a class for its first, second and third value of a cue
STRAY = 0.06  # chance that a cue is drawn from all its values instead

# RGB of a surface's two colours and its rim. The two differ in lightness, so that a pattern survives
# greyscale, and are swapped at random, so that neither is the one that dominates the mean colour.
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

TURN = 512  # angles in a full turn, a power of two: the resolution of outlines
ANGLES = np.arange(TURN, dtype=np.float32) * np.float32(2 * np.pi / TURN)
COSINES = np.cos(ANGLES)
HARMONICS = np.stack([wave(k * ANGLES) / k for k in range(2, 6) for wave in (np.cos, np.sin)])  # of blobs
COARSE, MIDDLE, FINE = 5, 8, 16  # control points an image side of the three smooth noises
RIM = 0.025  # width of a thing's rim, in image sides
SHADE = np.float32(0.22)  # how much lighter a thing is a radius towards the light

Field = Float32[np.ndarray, "h w"]
Noise = Float32[np.ndarray, f"{FINE} {FINE}"]


@dataclass(frozen=True, eq=False)
class Thing:
    """An object or a bystander: its cues, its pose, and the numbers in which its likes differ."""

    outline: str
    pattern: str
    colours: Float32[np.ndarray, "3 3"]  # two of the surface, one of the rim; RGB, about 0-1
    centre: tuple[float, float]  # x and y, in image sides
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
    colours: Float32[np.ndarray, "3 3"]  # RGB, 0-1
    direction: float  # radians
    level: float  # 0-1, of the horizon or the water
    noise: Noise  # of the grain; its corners serve the two coarse fields


@dataclass(frozen=True, eq=False)
class Scene:
    """All that `render` needs: the ground, and the things on it in the order of painting."""

    ground: Ground
    things: tuple[Thing, Thing]


@dataclass(frozen=True, eq=False)
class Surface:
    """The pixels around a thing, in its own upright coordinates; lengths in radii of a disc of its area."""

    u: Field
    v: Field
    radius: Field
    angle: np.ndarray  # int "h w", in 1 / TURN turns
    smooth: Callable[[int], Field]  # control points an image side -> noise of about unit variance


def _polygon(thing: Thing) -> np.ndarray:
    sector = 2 * np.pi / (3 + thing.lobes % 3)
    return 1 / np.cos(ANGLES % sector - sector / 2)


def _star(thing: Thing) -> np.ndarray:
    saw = np.abs((ANGLES * (thing.lobes / (2 * np.pi))) % 1 - 0.5)
    return 1 / (1 + (1.8 + 1.6 * thing.stretch) * saw)


def _leaf(thing: Thing) -> np.ndarray:
    reach = 1.35 + 0.25 * thing.stretch  # radius of two discs a step up and down; a leaf is where they meet
    return np.sqrt(reach**2 - COSINES**2) - np.abs(np.sin(ANGLES))


def _blob(thing: Thing) -> np.ndarray:
    wave = thing.noise[0, : len(HARMONICS)] @ HARMONICS
    return 1 + (0.25 + 0.15 * thing.stretch) * wave.clip(-1.6, 1.6)


# Outlines: how far the edge is from the centre at each of ANGLES, up to a factor.
OUTLINES: dict[str, Callable[[Thing], np.ndarray]] = {
    "ellipse": lambda thing: 1 / np.hypot(COSINES, (1.1 + 0.6 * thing.stretch) * np.sin(ANGLES)),
    "polygon": _polygon,
    "star": _star,
    "flower": lambda thing: 1 + (0.5 + 0.4 * thing.stretch) * np.abs(np.sin(ANGLES * (thing.lobes / 2))),
    "blob": _blob,
    "leaf": _leaf,
    "ring": lambda thing: np.ones_like(ANGLES),
    "crescent": lambda thing: np.ones_like(ANGLES),
}
HOLES = {"ring": (0.0, 0.45), "crescent": (0.55, 0.75)}  # distance from the centre and radius, in radii

# Patterns: cycles a radius, and a wave of about -1 to 1 (surface, wave number, phase). They are coarse enough
# (a period of about 10 pixels of 64) to outlive the resizing and the blur of a small crop.
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

# Grounds: how far each pixel goes to the second colour (0-1), from coarse noise `n`, distance `d` along the
# ground's direction (within 0.71 image sides of the middle) and level.
GROUNDS: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "gradient": lambda n, d, level: 0.5 + d + 0.15 * n,
    "clouds": lambda n, d, level: 0.5 + 0.4 * n,
    "horizon": lambda n, d, level: 12 * (d + 0.1 * n + 0.5 * (level - 0.5)),
    "islands": lambda n, d, level: 4 * (n + level - 0.5),
    "dunes": lambda n, d, level: 0.5 + 0.5 * np.sin(1.5 * n + (8 + 8 * level) * d),
}


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


def _mix(colours: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Colours "n 3" in shares "n h w" -> "3 h w"."""
    return (colours.T @ shares.reshape(len(shares), -1)).reshape(3, *shares.shape[1:])


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
    return _mix(ground.colours, shares) + np.float32(0.03) * grain


def _inside(thing: Thing, outline: np.ndarray, radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """How far pixels are inside the edge along the ray from the centre, in image sides; negative outside."""
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

    # Only the window that the thing can reach is computed: `here` on the canvas, `there` around the centre.
    reach = int(outline.max() * size) + 2
    middle = [round(place * size) for place in reversed(thing.centre)]
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
    patch += _mix(thing.colours, shares)


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


# A class's cues as lists, and where a uniform number changes from one preferred value to the next.
_PREFERRED = [tuple(cue.split() for cue in cues) for cues in CLASSES.values()]
_EVERY = tuple(list(values) for values in (OUTLINES, PATTERNS, PALETTES))
_STEPS = np.cumsum(PREFERENCE).tolist()
_KINDS = list(GROUNDS)
_RGB = {name: np.array(colours, np.float32) for name, colours in PALETTES.items()}


def _sample_thing(rng: np.random.Generator, label: int | None, cover: float, centre: np.ndarray) -> Thing:
    """A thing of a class, or, without label, one whose cues are independent and uniform."""
    draw = iter(rng.random(24).tolist()).__next__  # at once: a call of the generator for each costs more
    cues = []
    for cue, every in enumerate(_EVERY):
        if label is None or draw() < STRAY:
            cues.append(every[int(draw() * len(every))])
        else:
            share = draw()
            cues.append(_PREFERRED[label][cue][(share > _STEPS[0]) + (share > _STEPS[1])])
    outline, pattern, palette = cues
    colours = _RGB[palette] + rng.standard_normal((3, 3), np.float32) * np.float32(0.05)
    return Thing(
        outline=outline,
        pattern=pattern,
        colours=colours[[1, 0, 2]] if draw() < 0.5 else colours,
        centre=(float(centre[0]), float(centre[1])),
        cover=cover,
        turn=0.22 * (draw() - 0.5),
        lobes=5 + int(4 * draw()),
        stretch=draw(),
        fineness=0.8 + 0.45 * draw(),
        phase=2 * math.pi * draw(),
        light=2 * math.pi * draw(),
        noise=rng.standard_normal((FINE, FINE), np.float32),
    )


def sample_scene(rng: np.random.Generator, label: int) -> Scene:
    """A scene with an object of class `label` (0 to 9) and a bystander, in front of it or behind."""
    colours = rng.random((3, 3), np.float32)
    ground = Ground(
        kind=_KINDS[int(rng.random() * len(_KINDS))],
        colours=np.float32(0.15) + np.float32(0.5) * colours + np.float32(0.25) * colours.mean(0),
        direction=2 * math.pi * rng.random(),
        level=rng.random(),
        noise=rng.standard_normal((FINE, FINE), np.float32),
    )
    thing = _sample_thing(rng, label, cover=0.22 + 0.29 * rng.random(), centre=0.36 + 0.28 * rng.random(2))
    bystander = _sample_thing(rng, None, cover=0.02 + 0.05 * rng.random(), centre=rng.random(2))
    return Scene(ground, (bystander, thing) if rng.random() < 0.6 else (thing, bystander))


def _check(name: str, value: int, least: int, most: int) -> None:
    if not isinstance(value, int) or not least <= value <= most:
        nearest = min(max(int(value), least), most) if isinstance(value, int | float) else least
        raise SettingError(f"{name}={value!r}: must be a whole number from {least} to {most}; try {nearest}")


class SyntheticScenes:
    """A map-style data set: scene `index` of `seed`, always the same image.

    Args:
        num_images: how many scenes, 1 or more.
        image_size: pixels a side, 16 to 1024.
        seed: 0 or more; different seeds give unrelated scenes.

    Raises:
        SettingError: one of them is not a whole number within its range.
    """

    def __init__(self, num_images: int, image_size: int, seed: int) -> None:
        _check("num_images", num_images, 1, 2**31)
        _check("image_size", image_size, 16, 1024)
        _check("seed", seed, 0, 2**63)
        self.num_images, self.image_size, self.seed = num_images, image_size, seed
        self.classes = list(CLASSES)

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Scene `index` as an RGB image, and the number of its class: index modulo the number of classes."""
        if not 0 <= index < self.num_images:
            raise IndexError(f"scene {index} of {self.num_images}")
        label = index % len(self.classes)
        scene = sample_scene(np.random.default_rng([self.seed, index]), label)
        return Image.fromarray(render(scene, self.image_size)), label
