"""An ONNX graph, for runtimes without torch."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from cim_lightning.errors import ConfigError
from cim_lightning.export.format import Format, Outputs
from cim_lightning.export.input_spec import Images, normalized
from cim_lightning.models.backbone import Backbone

NEEDED = ("onnx", "onnxruntime", "onnxscript")


class Graph(Format):
    """backbone.onnx: normalized "images" of any number to "pooled" and "grid", as models.backbone.Features.

    The images' channels and size are fixed; the file's metadata hold them, "mean" and "std" as JSON.

    Args:
        tolerance: see Format.
        opset: version of ONNX's operators; None for the exporter's own choice.

    Raises:
        ConfigError: a package that this format needs is not installed.
    """

    file = "backbone.onnx"

    def __init__(self, tolerance: float, opset: int | None):
        super().__init__(tolerance)
        self.opset = opset
        for package in NEEDED:
            if importlib.util.find_spec(package) is None:
                raise ConfigError(
                    f"format=onnx: {package} is not installed; try pip install 'cim-lightning[export]'"
                )

    def write(self, backbone: Backbone, images: Images, folder: Path) -> None:
        two = torch.zeros(
            2, images.channels, images.size, images.size
        )  # of one, tracing takes the size as fixed
        program = torch.onnx.export(
            backbone,
            (two,),
            dynamo=True,
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            input_names=["images"],
            output_names=["pooled", "grid"],
            opset_version=self.opset,
            verbose=False,
        )
        assert program is not None
        size = [images.channels, images.size, images.size]
        for name, value in {"input_size": size, "mean": images.mean, "std": images.std}.items():
            program.model.metadata_props[name] = json.dumps(value)
        program.save(str(folder / self.file))  # beyond 2 GB, protobuf's limit, weights lie beside it

    def read(self, folder: Path) -> Callable[[Tensor], Outputs]:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(folder / self.file), providers=["CPUExecutionProvider"])
        said = session.get_modelmeta().custom_metadata_map
        names = [output.name for output in session.get_outputs()]

        def run(shown: Tensor) -> Outputs:
            images = normalized(shown, json.loads(said["mean"]), json.loads(said["std"]))
            values = session.run(names, {"images": images.numpy()})
            return dict(zip(names, map(torch.from_numpy, values), strict=True))

        return run

    def expected(self, backbone: Backbone, images: Tensor) -> Outputs:
        return backbone(images)._asdict()
