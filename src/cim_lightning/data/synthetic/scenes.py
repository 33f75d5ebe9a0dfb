"""The embedded data set: labeled scenes made from numbers alone, without a file or a network.

A class is a distribution over three cues of an object: outline, pattern and palette. Classes share every
value of every cue, so that one cue says little and their combination nearly all. Background and a small
bystander are drawn independently of the class; the bystander is patterned too, so that whoever has to find
where a crop came from must tell surfaces apart, which is what tells classes apart.

A scene is sampled first (`sample_scene`: numbers only) and drawn second (`render`: no randomness).
"""

import math

import numpy as np
from PIL import Image

from cim_lightning.data.sources import Splits
from cim_lightning.data.synthetic.cues import GROUNDS, OUTLINES, PALETTES, PATTERNS
from cim_lightning.data.synthetic.rendering import render
from cim_lightning.data.synthetic.scene import FINE, Ground, Scene, Thing
from cim_lightning.errors import ConfigError

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
PREFERENCE = (0.7, 0.2, 0.1)  # of a class for its first, second and third value of a cue
IMAGES, SIDE, SEED = (1, 2**31), (16, 1024), (0, 2**62)  # least and most
STRAY = 0.05  # chance that a cue is drawn from all its values instead

# A class's cues as lists, and where a uniform number changes from one preferred value to the next.
_PREFERRED = [tuple(cue.split() for cue in cues) for cues in CLASSES.values()]
_EVERY = tuple(list(values) for values in (OUTLINES, PATTERNS, PALETTES))
_STEPS = np.cumsum(PREFERENCE).tolist()
_KINDS = list(GROUNDS)
_RGB = {name: np.array(colors, np.float32) for name, colors in PALETTES.items()}


def _sample_thing(rng: np.random.Generator, label: int | None, cover: float, center: np.ndarray) -> Thing:
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
    colors = _RGB[palette] + rng.standard_normal((3, 3), np.float32) * np.float32(0.05)
    return Thing(
        outline=outline,
        pattern=pattern,
        colors=colors[[1, 0, 2]] if draw() < 0.5 else colors,
        center=(float(center[0]), float(center[1])),
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
    colors = rng.random((3, 3), np.float32)
    ground = Ground(
        kind=_KINDS[int(rng.random() * len(_KINDS))],
        colors=np.float32(0.15) + np.float32(0.5) * colors + np.float32(0.25) * colors.mean(0),
        direction=2 * math.pi * rng.random(),
        level=rng.random(),
        noise=rng.standard_normal((FINE, FINE), np.float32),
    )
    thing = _sample_thing(rng, label, cover=0.22 + 0.29 * rng.random(), center=0.36 + 0.28 * rng.random(2))
    bystander = _sample_thing(rng, None, cover=0.02 + 0.05 * rng.random(), center=rng.random(2))
    return Scene(ground, (bystander, thing) if rng.random() < 0.6 else (thing, bystander))


def _check(setting: str, value: int, limits: tuple[int, int]) -> None:
    least, most = limits
    if not isinstance(value, int) or not least <= value <= most:
        nearest = min(max(int(value), least), most) if isinstance(value, int | float) else least
        raise ConfigError(
            f"{setting}={value!r}: must be a whole number from {least} to {most}; try {nearest}"
        )


class SyntheticScenes:
    """A map-style data set: scene `index` of `seed`, always the same image.

    Args:
        num_images: how many scenes, 1 or more.
        image_size: pixels a side, 16 to 1024.
        seed: 0 or more; different seeds give unrelated scenes.

    Raises:
        ConfigError: one of them is not a whole number within its range.
    """

    def __init__(self, num_images: int, image_size: int, seed: int) -> None:
        _check("num_images", num_images, IMAGES)
        _check("image_size", image_size, SIDE)
        _check("seed", seed, SEED)
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


def synthetic(num_train: int, num_val: int, image_size: int, seed: int) -> Splits:
    """Training and validation scenes, of unrelated seeds. Raises ConfigError as SyntheticScenes does."""
    given = (("num_train", num_train, IMAGES), ("num_val", num_val, IMAGES))
    for name, value, limits in (*given, ("image_size", image_size, SIDE), ("seed", seed, SEED)):
        _check(f"data.source.{name}", value, limits)
    train, val = (SyntheticScenes(n, image_size, 2 * seed + i) for i, n in enumerate((num_train, num_val)))
    return Splits(train, val)
