"""Weights for timm: backbone.safetensors, and backbone.json with the arguments of timm.create_model."""

from pathlib import Path

import timm
from safetensors.torch import save_file

from cim_lightning.atomic import read_json, replacing, write_json
from cim_lightning.formats.format import Format, Loaded, require_timm, timm_outputs
from cim_lightning.models.backbone import Backbone


class TimmFormat(Format):
    """backbone.safetensors and backbone.json.

    `timm.create_model(**config["create_model"], checkpoint_path="backbone.safetensors")` restores the model,
    with `config` from backbone.json. `config` also has the `width` of the features and describes the input:
    square images of side `image_size` in 0..1, and the `mean` and `std` of each channel.
    """

    file = "backbone.safetensors"

    def write(self, backbone: Backbone, image_size: int, folder: Path) -> None:
        timm_backbone = require_timm(backbone)
        state = timm_backbone.timm_model().state_dict().items()
        with replacing(folder / self.file) as temporary:
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state}
            save_file(tensors, temporary, metadata={"format": "pt"})
        config = {
            "create_model": timm_backbone.timm_kwargs | {"num_classes": 0},
            **backbone.normalization,
            "image_size": image_size,
            "width": backbone.dim,
        }
        write_json(folder / "backbone.json", config)

    def load(self, folder: Path) -> Loaded:
        config = read_json(folder / "backbone.json")
        model = timm.create_model(**config["create_model"], checkpoint_path=folder / self.file).eval()
        return (lambda images: timm_outputs(model, images)), config["mean"], config["std"]
