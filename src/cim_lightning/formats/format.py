"""Base class of the export formats: write a backbone, reload it and compare the outputs."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from cim_lightning.atomic import read_json, write_json
from cim_lightning.checks import check_share
from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.timm_backbone import TimmBackbone

log = logging.getLogger(__name__)

Outputs = dict[str, Tensor]
Loaded = tuple[Callable[[Tensor], Outputs], list[float], list[float]]  # model, mean and std per channel


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

    def export(
        self, backbone: Backbone, image_size: int, folder: Path, about: Mapping[str, Any]
    ) -> dict[str, float]:
        """Write a backbone, reload it, compare the outputs on fixed images, and update `export.json`.

        Args:
            backbone: in evaluation mode.
            image_size: side of the square images in training, in pixels.
            about: further entries for `export.json`, such as the checkpoint.

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
        images = example_images(backbone.in_channels, image_size)
        with torch.no_grad():
            expected = self.expected(backbone, backbone.normalize(images))
            model, mean, std = self.load(folder)
            loaded = model((images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None])
        largest = {name: value.abs().max().item() for name, value in expected.items()}
        differences = {name: max_difference(value, loaded[name]) for name, value in expected.items()}
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
        entry = {
            "compared_on": f"{len(images)} images of {' x '.join(map(str, images.shape[1:]))} pixels",
            "max_abs_difference": differences,
            "max_abs_value": largest,
            "tolerance": self.tolerance,
        }
        write_json(folder / "export.json", record | {self.file: {**about, **entry}})
        return differences


def example_images(channels: int, size: int) -> Float[Tensor, "b c s s"]:
    """Return three images of uniform noise in 0..1, the same on each call."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, channels, size, size, generator=generator)


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
