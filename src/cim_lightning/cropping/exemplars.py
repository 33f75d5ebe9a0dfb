"""Exemplars, contexts and correlation maps (paper, section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from cim_lightning.checks import check_at_least
from cim_lightning.cropping.appearance import Appearance
from cim_lightning.cropping.boxes import Boxes, BoxSampler
from cim_lightning.cropping.cropper import Cropper
from cim_lightning.cropping.random_crop import CropParams, RandomCrop
from cim_lightning.cropping.recoloring import Recoloring
from cim_lightning.cropping.resize import resize
from cim_lightning.errors import ConfigError
from cim_lightning.image_random import ImageRandom

COLORS = Appearance()


class Crops(NamedTuple):
    """Input, in 0..1, and target of correlational image modeling.

    With pairs of frames, the exemplars come from another frame than the context. The maps are then the boxes
    in `other_frames`, which are their place in the context only where nothing moves.
    """

    context: Float[Tensor, "b c s s"]
    exemplars: Float[Tensor, "b k c e e"]
    maps: Bool[Tensor, "b k s s"]  # True inside the box of the exemplar
    boxes: Boxes
    other_frames: Float[Tensor, "b c s s"] | None = None  # None: exemplars and context are of the same frame
    flipped: Bool[Tensor, "b k"] | None = None  # which exemplars are mirrored; None: none

    @property
    def num_images(self) -> int:
        return len(self.context)


@dataclass
class ExemplarCropper(Cropper):
    """Crops k exemplars from each view, and resizes the view to the context.

    Of views "b 2 c h w" of pairs of frames, the first is the context, and the exemplars are cropped from the
    second.

    For scale, ratio and rotation, see BoxSampler. The defaults are the paper's values.
    """

    num_exemplars: int = 6  # per view (k)
    scale: Sequence[float] = (0.05, 0.48)
    ratio: Sequence[float] = (1 / 3, 3.0)
    rotation: float = 45
    context_size: int = 160  # side of the context and of the correlation maps in pixels (s)
    exemplar_size: int = 64  # side of the exemplars in pixels (e); at most the side of the view
    flip: float = 0.5  # probability that an exemplar is flipped horizontally
    appearance: Recoloring | None = COLORS  # color augmentation of the exemplars; None: none

    crops_pairs = True

    def __post_init__(self) -> None:
        for name in ("num_exemplars", "context_size", "exemplar_size"):
            check_at_least(name, getattr(self, name), 1)
        boxes = {"scale": self.scale, "ratio": self.ratio, "rotation": self.rotation}
        self.random_crop = RandomCrop(self.exemplar_size, flip=self.flip, appearance=self.appearance, **boxes)

    @property
    def boxes(self) -> BoxSampler:
        return self.random_crop.boxes

    def sample(self, view: tuple[int, int], random: ImageRandom) -> CropParams:
        if self.exemplar_size > min(view):
            rule = f"must not exceed the view of {view[0]}x{view[1]} pixels"
            raise ConfigError("exemplar_size", self.exemplar_size, rule, suggest=min(view))
        return self.random_crop.sample(self.num_exemplars, view, random)

    def crop(self, images: Float[Tensor, "b *f c h w"], params: CropParams) -> Crops:
        frames = images.unbind(1) if images.ndim == 5 else (images,)
        return Crops(
            context=resize(frames[0], self.context_size),
            exemplars=self.random_crop.crop(frames[-1], params),
            maps=params.boxes.rasterize(self.context_size, self.context_size),
            boxes=params.boxes,
            other_frames=resize(frames[1], self.context_size) if len(frames) > 1 else None,
            flipped=params.flipped,
        )
