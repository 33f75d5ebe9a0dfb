"""What every format shares: it is written, loaded back as others will, and compared, before it is done."""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cim_lightning.errors import ConfigError
from cim_lightning.export.input_spec import Images, normalized
from cim_lightning.models.backbone import Backbone

log = logging.getLogger(__name__)
RECORD = "export.json"

Outputs = dict[str, Tensor]


class Format(ABC):
    """One way to write a backbone for others.

    Args:
        tolerance: largest difference that is let pass, as a share of the output's largest absolute value.

    Raises:
        ConfigError: the tolerance is no such share.
    """

    file: str  # the one that holds the weights

    def __init__(self, tolerance: float):
        if not 0 <= tolerance < 1:
            near = 0 if tolerance < 0 else 0.1
            raise ConfigError(
                f"format.tolerance={tolerance}: must be 0 or more, below 1; try format.tolerance={near}"
            )
        self.tolerance = tolerance

    @abstractmethod
    def write(self, backbone: Backbone, images: Images, folder: Path) -> None:
        """Writes the weights, and what their images want, into a folder that is there."""

    @abstractmethod
    def read(self, folder: Path) -> Callable[[Tensor], Outputs]:
        """Loads what was written as others will, from the folder alone.

        It maps images of 0..1, "b c h w", to outputs by name, normalizing as the folder says.
        """

    @abstractmethod
    def expected(self, backbone: Backbone, images: Tensor) -> Outputs:
        """The same outputs of the backbone itself, for normalized images "b c h w"."""

    def export(
        self, backbone: Backbone, images: Images, folder: Path, about: Mapping[str, Any]
    ) -> dict[str, float]:
        """Writes a backbone in evaluation mode, loads it back, compares, and adds to the folder's record.

        Args:
            images: what the backbone was trained on; it is compared on fixed ones of that kind.
            about: what the record says besides, such as the checkpoint.

        Returns the largest absolute difference of each output.

        Raises:
            ConfigError: an output differs by more than the tolerance; the record then lacks this file.
        """
        folder.mkdir(parents=True, exist_ok=True)
        record = {file: said for file, said in _record(folder).items() if file != self.file}
        _write(folder, record)
        self.write(backbone, images, folder)
        fixed = images.fixed()
        with torch.no_grad():
            wanted = self.expected(backbone, normalized(fixed, images.mean, images.std))
            found = self.read(folder)(fixed)
        largest = {name: value.abs().max().item() for name, value in wanted.items()}
        differences = {name: difference(wanted[name], found[name]) for name in wanted}
        path = folder / self.file
        for name, apart in differences.items():
            most = largest[name]
            said = f"{name} differs by at most {apart:.3g} after loading back, where it reaches {most:.3g}"
            if not apart <= self.tolerance * most:  # nor if it is no number
                raise ConfigError(
                    f"format.tolerance={self.tolerance:g}: {path}: {said}; try "
                    f"format.tolerance={apart / most if most else 0:.2g}, if that will do"
                )
            log.info("%s: %s (tolerance: %g of that)", path, said, self.tolerance)
        told = {
            "compared_on": f"{len(fixed)} images of {images.channels} x {images.size} x {images.size} pixels",
            "normalize": images.normalize,
            "max_abs_difference": differences,
            "max_abs_value": largest,
            "tolerance": self.tolerance,
        }
        _write(folder, record | {self.file: dict(about) | told})
        return differences


def difference(wanted: Tensor, found: Tensor) -> float:
    """Largest absolute difference of two outputs; infinite if shapes differ, NaN if either holds one."""
    return (wanted - found).abs().max().item() if wanted.shape == found.shape else float("inf")


def _record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    return json.loads(path.read_text()) if path.exists() else {}


def _write(folder: Path, record: Mapping[str, Any]) -> None:
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
