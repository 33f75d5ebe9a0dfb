"""The embedded data set: generated scenes with labels, without files or a network.

A class is a distribution over three cues of an object: outline, pattern and palette. Every value of a cue
occurs in several classes, so only the combination of cues predicts the class. The background and a small
object, the distractor, are independent of the class.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cim_lightning.checks import check_at_least, check_within
from cim_lightning.data.pixel_format import RGB8, PixelFormat, Pixels
from cim_lightning.data.source import Splits
from cim_lightning.data.synthetic.cues import BACKGROUNDS, OUTLINES, PALETTES, PATTERNS
from cim_lightning.data.synthetic.rendering import render
from cim_lightning.data.synthetic.scene import FINE, Background, Scene, SceneObject

# Outlines, patterns and palettes of each class, most likely first.
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
PREFERENCE = (0.7, 0.2, 0.1)  # probability of a class's first, second and third value of a cue
STRAY = 0.05  # probability that a cue is sampled from all its values instead

_PREFERRED = [tuple(cue.split() for cue in cues) for cues in CLASSES.values()]
_ALL_VALUES = tuple(list(values) for values in (OUTLINES, PATTERNS, PALETTES))
_THRESHOLDS = np.cumsum(PREFERENCE).tolist()
_BACKGROUNDS = list(BACKGROUNDS)
_RGB = {name: np.array(colors, np.float32) for name, colors in PALETTES.items()}


def _sample_object(
    rng: np.random.Generator, label: int | None, area: float, center: np.ndarray
) -> SceneObject:
    """Sample an object of a class, or with uniform cues if `label` is None."""
    draw = iter(rng.random(24).tolist()).__next__  # one call is faster than 24
    cues = []
    for cue, values in enumerate(_ALL_VALUES):
        if label is None or draw() < STRAY:
            cues.append(values[int(draw() * len(values))])
        else:
            share = draw()
            cues.append(_PREFERRED[label][cue][(share > _THRESHOLDS[0]) + (share > _THRESHOLDS[1])])
    outline, pattern, palette = cues
    colors = _RGB[palette] + rng.standard_normal((3, 3), np.float32) * np.float32(0.05)
    return SceneObject(
        outline=outline,
        pattern=pattern,
        colors=colors[[1, 0, 2]] if draw() < 0.5 else colors,
        center=(float(center[0]), float(center[1])),
        area=area,
        rotation=0.22 * (draw() - 0.5),
        lobes=5 + int(4 * draw()),
        stretch=draw(),
        frequency=0.8 + 0.45 * draw(),
        phase=2 * math.pi * draw(),
        light=2 * math.pi * draw(),
        noise=rng.standard_normal((FINE, FINE), np.float32),
    )


def sample_scene(rng: np.random.Generator, label: int) -> Scene:
    """Sample a scene with an object of class `label` (0-9) and a distractor in front of it or behind it."""
    colors = rng.random((3, 3), np.float32)
    background = Background(
        kind=_BACKGROUNDS[int(rng.random() * len(_BACKGROUNDS))],
        colors=np.float32(0.15) + np.float32(0.5) * colors + np.float32(0.25) * colors.mean(0),
        direction=2 * math.pi * rng.random(),
        level=rng.random(),
        noise=rng.standard_normal((FINE, FINE), np.float32),
    )
    obj = _sample_object(rng, label, area=0.22 + 0.29 * rng.random(), center=0.36 + 0.28 * rng.random(2))
    distractor = _sample_object(rng, None, area=0.02 + 0.05 * rng.random(), center=rng.random(2))
    return Scene(background, (distractor, obj) if rng.random() < 0.6 else (obj, distractor))


@dataclass
class SyntheticScenes:
    """A map-style data set. A scene is a function of the seed and the index."""

    num_images: int  # at least 1
    image_size: int  # side in pixels, 16..1024
    seed: int  # at least 0
    pixels: PixelFormat = RGB8

    def __post_init__(self) -> None:
        check_at_least("num_images", self.num_images, 1)
        check_within("image_size", self.image_size, 16, 1024)
        check_at_least("seed", self.seed, 0)
        self.classes = list(CLASSES)
        self.labels = np.arange(self.num_images) % len(self.classes)

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        """Return the image of scene `index`, and its class: the index modulo the number of classes."""
        image = Image.fromarray(render(self.scene(index), self.image_size))
        return self.pixels.convert(image), int(self.labels[index])

    def scene(self, index: int) -> Scene:
        """Return the parameters of scene `index`."""
        if not 0 <= index < self.num_images:
            raise IndexError(f"scene {index} of {self.num_images}")
        return sample_scene(np.random.default_rng([self.seed, index]), index % len(self.classes))


def synthetic(num_train: int, num_val: int, image_size: int, seed: int, pixels: PixelFormat = RGB8) -> Splits:
    """Return training and validation scenes of different seeds. For limits, see SyntheticScenes."""
    check_at_least("num_train", num_train, 1)
    check_at_least("num_val", num_val, 1)
    check_at_least("seed", seed, 0)
    sizes = enumerate((num_train, num_val))
    train, val = (SyntheticScenes(n, image_size, 2 * seed + i, pixels) for i, n in sizes)
    return Splits(train, val)
