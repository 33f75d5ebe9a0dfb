"""ONNX graph, for runtimes without torch."""

import importlib.util
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cim_lightning.checks import check_within
from cim_lightning.errors import ConfigError
from cim_lightning.formats.format import Format, Loaded, Outputs, wider_size
from cim_lightning.models.backbone import Backbone

log = logging.getLogger(__name__)
OLDEST_OPSET = 7  # that onnxruntime supports
PACKAGES = ("onnx", "onnxruntime", "onnxscript")


@dataclass
class ONNXFormat(Format):
    """backbone.onnx: from normalized "images" to "pooled" and "grid" (see models.backbone.Features).

    The batch size is dynamic. The size of the images is dynamic, too, if the architecture allows it. The
    metadata of the file has "input_size", "mean" and "std" as JSON.

    Raises:
        ConfigError: a package is not installed.
    """

    file = "backbone.onnx"
    opset: int | None  # version of the ONNX operators; None: the exporter's default

    def __post_init__(self) -> None:
        super().__post_init__()
        for package in PACKAGES:
            if importlib.util.find_spec(package) is None:
                raise ConfigError(f"ONNX export needs {package}; try pip install 'cim-lightning[export]'")
        from onnx.defs import onnx_opset_version  # of an optional package

        check_within("opset", self.opset, OLDEST_OPSET, onnx_opset_version())

    def write(self, backbone: Backbone, image_size: int, folder: Path) -> None:
        size = (backbone.in_channels, image_size, image_size)
        # The sizes differ from each other and from 1, which tracing would take for constants.
        height, width = next(iter(wider_size(backbone, image_size)), (image_size, image_size))
        dynamic: dict[int, Any] = {0: torch.export.Dim("batch")}
        if height != width:
            dynamic |= {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
        program = torch.onnx.export(
            backbone,
            (torch.zeros(2, backbone.in_channels, height, width),),
            dynamo=True,
            dynamic_shapes={"images": dynamic},
            input_names=["images"],
            output_names=["pooled", "grid"],
            opset_version=self.opset,
            verbose=False,
        )
        assert program is not None
        for name, value in {"input_size": size, **backbone.normalization}.items():
            program.model.metadata_props[name] = json.dumps(value)
        program.save(str(folder / self.file))  # weights above 2 GB, protobuf's limit, go to a second file

    def compared_sizes(self, backbone: Backbone, image_size: int, folder: Path) -> list[tuple[int, int]]:
        sides = self._session(folder).get_inputs()[0].shape[2:]
        if all(isinstance(side, int) for side in sides):
            log.info("%s: the size of the images is fixed: %s", folder / self.file, "x".join(map(str, sides)))
            return [tuple(sides)]
        return super().compared_sizes(backbone, image_size, folder)

    def load(self, folder: Path) -> Loaded:
        session = self._session(folder)
        metadata = session.get_modelmeta().custom_metadata_map
        names = [output.name for output in session.get_outputs()]

        def run(images: Tensor) -> Outputs:
            values = session.run(names, {"images": images.numpy()})
            return dict(zip(names, map(torch.from_numpy, values), strict=True))

        return run, json.loads(metadata["mean"]), json.loads(metadata["std"])

    def _session(self, folder: Path) -> Any:
        import onnxruntime

        return onnxruntime.InferenceSession(str(folder / self.file), providers=["CPUExecutionProvider"])

    def expected(self, backbone: Backbone, images: Tensor) -> Outputs:
        return backbone(images)._asdict()
