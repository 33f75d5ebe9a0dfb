"""Exemplars, contexts and correlation maps (paper, section 3.1)."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cim_lightning.bounds import at_least
from cim_lightning.cropping.appearance import Appearance
from cim_lightning.cropping.boxes import Boxes, BoxSampler
from cim_lightning.cropping.cropper import Cropper
from cim_lightning.cropping.random_crop import CropParams, RandomCrop
from cim_lightning.cropping.resize import resize
from cim_lightning.errors import ConfigError


class Crops(NamedTuple):
    """Input and target of correlational image modeling."""

    context: Float[Tensor, "b c s s"]
    exemplars: Float[Tensor, "b k c e e"]
    maps: Bool[Tensor, "b k s s"]  # True inside the box of the exemplar
    boxes: Boxes


class ExemplarCropper(Cropper):
    """Crops k exemplars from each view, and resizes the view to the context.

    Args:
        num_exemplars: exemplars per view (k).
        scale, ratio, rotation: see BoxSampler.
        context_size: side of the context and of the correlation maps in pixels (s).
        exemplar_size: side of the exemplars in pixels (e).
        flip: probability that an exemplar is flipped horizontally.
        appearance: color augmentation of the exemplars; None: none.
        normalize: see Cropper.

    Raises:
        ConfigError: a value is outside its range; on sampling, an exemplar is larger than the view.
    """

    def __init__(
        self,
        num_exemplars: int,
        scale: Sequence[float],
        ratio: Sequence[float],
        rotation: float,
        context_size: int,
        exemplar_size: int,
        flip: float,
        appearance: Appearance | None = None,
        normalize: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__(normalize)
        at_least("num_exemplars", num_exemplars, 1)
        at_least("context_size", context_size, 1)
        at_least("exemplar_size", exemplar_size, 1)
        self.num_exemplars, self.context_size, self.exemplar_size = num_exemplars, context_size, exemplar_size
        self.random_crop = RandomCrop(exemplar_size, scale, ratio, flip, appearance, rotation)

    @property
    def boxes(self) -> BoxSampler:
        return self.random_crop.boxes

    def with_boxes(self, boxes: BoxSampler) -> "ExemplarCropper":
        """Return a copy with another box sampler."""
        changed = copy.copy(self)
        changed.random_crop = copy.copy(self.random_crop)
        changed.random_crop.boxes = boxes
        return changed

    def sample(self, b: int, view: tuple[int, int], generator: torch.Generator) -> CropParams:
        if self.exemplar_size > min(view):
            rule = f"must not exceed the view of {view[0]}x{view[1]} pixels"
            raise ConfigError("exemplar_size", self.exemplar_size, rule, suggest=min(view))
        return self.random_crop.sample(b, self.num_exemplars, view, generator)

    def crop(self, images: Float[Tensor, "b c h w"], params: CropParams) -> Any:
        exemplars = self.random_crop.crop(images, params)
        return Crops(
            context=self.normalize(resize(images, self.context_size)),
            exemplars=self.normalize(exemplars.flatten(0, 1)).unflatten(0, exemplars.shape[:2]),
            maps=params.boxes.rasterize(self.context_size, self.context_size),
            boxes=params.boxes,
        )
