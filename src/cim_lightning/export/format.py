"""Base class of the export formats: write a backbone, reload it from disk and compare the outputs."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision.transforms.v2.functional as V
from torch import Tensor

from cim_lightning.atomic import read_json, write_json
from cim_lightning.checks import check_share
from cim_lightning.errors import ConfigError
from cim_lightning.export.input_spec import InputSpec
from cim_lightning.models.backbone import Backbone

log = logging.getLogger(__name__)

Outputs = dict[str, Tensor]
Loaded = tuple[Callable[[Tensor], Outputs], list[float], list[float]]  # model, mean and std per channel


class Format(ABC):
    """A file format for backbones.

    Args:
        tolerance: largest difference after reloading, as a share of the output's largest absolute value.
    """

    file: str  # name of the file with the weights

    def __init__(self, tolerance: float):
        check_share("tolerance", tolerance, one=False)
        self.tolerance = tolerance

    @abstractmethod
    def write(self, backbone: Backbone, spec: InputSpec, folder: Path) -> None:
        """Write the weights and the input specification into an existing folder."""

    @abstractmethod
    def load(self, folder: Path) -> Loaded:
        """Load a model of normalized images "b c h w" from the written files alone, as other projects do."""

    def expected(self, backbone: Backbone, images: Tensor) -> Outputs:
        """Return the same outputs of the backbone itself, for normalized images "b c h w"."""
        return timm_outputs(backbone.model, images)

    def export(
        self, backbone: Backbone, spec: InputSpec, folder: Path, about: Mapping[str, Any]
    ) -> dict[str, float]:
        """Write a backbone, reload it, compare the outputs on fixed images, and update `export.json`.

        Args:
            backbone: in evaluation mode.
            spec: input that the backbone was trained on.
            about: more entries for `export.json`, such as the checkpoint.

        Returns:
            The largest absolute difference of each output.

        Raises:
            ConfigError: a difference exceeds the tolerance. `export.json` then lacks this file.
        """
        folder.mkdir(parents=True, exist_ok=True)
        record = read_json(folder / "export.json")
        record.pop(self.file, None)  # invalid until the comparison passes
        write_json(folder / "export.json", record)
        self.write(backbone, spec, folder)
        images = spec.example_images()
        with torch.no_grad():
            expected = self.expected(backbone, V.normalize(images, spec.mean, spec.std))
            model, mean, std = self.load(folder)
            loaded = model(V.normalize(images, mean, std))
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
            log.info("%s (tolerance: %g of that)", result, self.tolerance)
        entry = {
            "compared_on": f"{len(images)} images of {spec.channels} x {spec.size} x {spec.size} pixels",
            "normalize": spec.normalize,
            "max_abs_difference": differences,
            "max_abs_value": largest,
            "tolerance": self.tolerance,
        }
        write_json(folder / "export.json", record | {self.file: {**about, **entry}})
        return differences


def timm_outputs(model: Any, images: Tensor) -> Outputs:
    """Return the outputs of a timm model by the names of its methods."""
    return {"forward_features": model.forward_features(images), "forward": model(images)}


def max_difference(expected: Tensor, loaded: Tensor) -> float:
    """Return the largest absolute difference; infinity if the shapes differ, NaN if a value is NaN."""
    return (expected - loaded).abs().max().item() if expected.shape == loaded.shape else float("inf")
