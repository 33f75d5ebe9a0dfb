"""Base class of the export formats: write a backbone, reload it and compare the outputs."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from cim_lightning.atomic import read_json, write_json
from cim_lightning.checks import check_share
from cim_lightning.errors import ConfigError
from cim_lightning.formats.model_card import ModelInfo
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.timm_backbone import TimmBackbone

log = logging.getLogger(__name__)

Outputs = dict[str, Tensor]
Loaded = tuple[Callable[[Tensor], Outputs], list[float], list[float]]  # model, mean and std per channel
NUM_EXAMPLES = 3  # images of a comparison


@dataclass
class Format(ABC):
    """A file format for backbones."""

    file: ClassVar[str]  # name of the file with the weights
    tolerance: float  # largest difference after reloading, as a share of the output's largest absolute value

    def __post_init__(self) -> None:
        check_share("tolerance", self.tolerance, one=False)

    @abstractmethod
    def write(self, backbone: Backbone, image_size: int, folder: Path) -> None:
        """Write the weights and a description of the input into an existing folder.

        Args:
            image_size: side of the square images, in pixels.
        """

    @abstractmethod
    def load(self, folder: Path) -> Loaded:
        """Load a model of normalized images "b c h w" from the written files only, as other projects do."""

    def expected(self, backbone: Backbone, images: Tensor) -> Outputs:
        """Return the outputs that the loaded model must have for normalized images "b c h w"."""
        return timm_outputs(require_timm(backbone).timm_model(), images)

    def compared_sizes(self, backbone: Backbone, image_size: int, folder: Path) -> list[tuple[int, int]]:
        """Return the (height, width) of the images on which the written model is compared.

        These are the size of the training, and a wider one if the backbone accepts it.
        """
        return [(image_size, image_size), *wider_size(backbone, image_size)]

    def finish(self, folder: Path, info: ModelInfo) -> None:  # noqa: B027 -- optional
        """Add to the folder after the comparison."""

    def export(self, backbone: Backbone, image_size: int, folder: Path, info: ModelInfo) -> dict[str, float]:
        """Write a backbone, reload it, compare the outputs on fixed images, and update `export.json`.

        Args:
            backbone: in evaluation mode.
            image_size: side of the square images in training, in pixels.
            info: what is known about the weights, for `export.json`.

        Returns:
            The largest absolute difference of each output.

        Raises:
            ConfigError: a difference exceeds the tolerance, or the format is for timm models only.
                `export.json` then has no entry for the file.
        """
        folder.mkdir(parents=True, exist_ok=True)
        record = read_json(folder / "export.json")
        record.pop(self.file, None)  # invalid until the comparison passes
        write_json(folder / "export.json", record)
        self.write(backbone, image_size, folder)
        sizes = self.compared_sizes(backbone, image_size, folder)
        loaded = self.load(folder)
        largest: dict[str, float] = {}
        differences: dict[str, float] = {}
        for size in sizes:
            for name, (magnitude, difference) in self._compare(backbone, loaded, size).items():
                largest[name] = max(largest.get(name, 0.0), magnitude)
                # NaN counts as the largest difference: max() would lose it, as it compares as False.
                differences[name] = max(differences.get(name, 0.0), difference, key=lambda d: (d != d, d))
        for name, difference in differences.items():
            result = (
                f"{folder / self.file}: {name} differs by at most {difference:.3g} after reloading; "
                f"its largest value is {largest[name]:.3g}"
            )
            if not difference <= self.tolerance * largest[name]:  # also if it is NaN
                needed = difference / largest[name] if largest[name] else 0
                hint = f"try tolerance={needed:.2g}, if that is precise enough"
                raise ConfigError("tolerance", self.tolerance, result, hint=hint)
            log.info("%s (tolerance: %g of this value)", result, self.tolerance)
        shapes = " and ".join(f"{height} x {width}" for height, width in sizes)
        entry = {
            "compared_on": f"{NUM_EXAMPLES} images with {backbone.in_channels} channels of {shapes} pixels",
            "max_abs_difference": differences,
            "max_abs_value": largest,
            "tolerance": self.tolerance,
        }
        write_json(folder / "export.json", record | {self.file: {**info, **entry}})
        self.finish(folder, info)
        return differences

    def _compare(
        self, backbone: Backbone, loaded: Loaded, size: tuple[int, int]
    ) -> dict[str, tuple[float, float]]:
        """Return the largest absolute value and the largest difference of each output."""
        model, mean, std = loaded
        images = example_images(backbone.in_channels, *size)
        with torch.no_grad():
            expected = self.expected(backbone, backbone.normalize(images))
            found = model((images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None])
        return {
            name: (value.abs().max().item(), max_difference(value, found[name]))
            for name, value in expected.items()
        }


def wider_size(backbone: Backbone, image_size: int) -> list[tuple[int, int]]:
    """Return a (height, width) with two more patches in width; empty if the backbone has a fixed size."""
    size = (image_size, image_size + 2 * backbone.patch_size)
    try:
        with torch.no_grad():
            backbone(backbone.mean.new_zeros(1, backbone.in_channels, *size))
    except (ConfigError, AssertionError, RuntimeError):  # of timm's checks, or of mismatched tables
        return []
    return [size]


def example_images(channels: int, height: int, width: int) -> Float[Tensor, "b c h w"]:
    """Return images of uniform noise in 0..1, the same on each call."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(NUM_EXAMPLES, channels, height, width, generator=generator)


def require_timm(backbone: Backbone) -> TimmBackbone:
    """Return the backbone, or raise ConfigError if it is not a timm model."""
    if not isinstance(backbone, TimmBackbone):
        rule = "is not a model of timm, which this format needs"
        raise ConfigError("backbone", backbone.name, rule, hint="try format=onnx")
    return backbone


def timm_outputs(model: Any, images: Tensor) -> Outputs:
    """Return the outputs of a timm model by the names of its methods."""
    return {"forward_features": model.forward_features(images), "forward": model(images)}


def max_difference(expected: Tensor, loaded: Tensor) -> float:
    """Return the largest absolute difference; infinity if the shapes differ, NaN if a value is NaN."""
    return (expected - loaded).abs().max().item() if expected.shape == loaded.shape else float("inf")
