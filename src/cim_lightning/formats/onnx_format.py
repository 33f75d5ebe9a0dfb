"""ONNX graph, for runtimes without torch."""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cim_lightning.errors import ConfigError
from cim_lightning.formats.format import Format, Loaded, Outputs
from cim_lightning.models.backbone import Backbone

PACKAGES = ("onnx", "onnxruntime", "onnxscript")


@dataclass
class ONNXFormat(Format):
    """backbone.onnx: from normalized "images" to "pooled" and "grid" (see models.backbone.Features).

    The batch size is dynamic, the size of the images is fixed. The metadata of the file has "input_size",
    "mean" and "std" as JSON.

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

    def write(self, backbone: Backbone, image_size: int, folder: Path) -> None:
        size = (backbone.in_channels, image_size, image_size)
        program = torch.onnx.export(
            backbone,
            (torch.zeros(2, *size),),  # two images: a batch of one would be traced as a fixed size
            dynamo=True,
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            input_names=["images"],
            output_names=["pooled", "grid"],
            opset_version=self.opset,
            verbose=False,
        )
        assert program is not None
        for name, value in {"input_size": size, **backbone.normalization}.items():
            program.model.metadata_props[name] = json.dumps(value)
        program.save(str(folder / self.file))  # weights above 2 GB, protobuf's limit, go to a second file

    def load(self, folder: Path) -> Loaded:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(folder / self.file), providers=["CPUExecutionProvider"])
        metadata = session.get_modelmeta().custom_metadata_map
        names = [output.name for output in session.get_outputs()]

        def run(images: Tensor) -> Outputs:
            values = session.run(names, {"images": images.numpy()})
            return dict(zip(names, map(torch.from_numpy, values), strict=True))

        return run, json.loads(metadata["mean"]), json.loads(metadata["std"])

    def expected(self, backbone: Backbone, images: Tensor) -> Outputs:
        return backbone(images)._asdict()
