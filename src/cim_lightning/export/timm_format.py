"""Weights for timm: backbone.safetensors, and backbone.json with the arguments of timm.create_model."""

from pathlib import Path

import timm
from safetensors.torch import save_file

from cim_lightning.atomic import read_json, replacing, write_json
from cim_lightning.export.format import Format, InputSpec, Loaded, timm_outputs
from cim_lightning.models.backbone import Backbone


class TimmFormat(Format):
    """backbone.safetensors and backbone.json.

    `timm.create_model(**config["create_model"], checkpoint_path="backbone.safetensors")` restores the model,
    with `config` from backbone.json. `config` also has the `width` of the features and describes the input:
    square images of side `image_size` in 0..1, and their normalization `normalize`.
    """

    file = "backbone.safetensors"

    def write(self, backbone: Backbone, spec: InputSpec, folder: Path) -> None:
        state = backbone.model.state_dict().items()
        with replacing(folder / self.file) as temporary:
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state}
            save_file(tensors, temporary, metadata={"format": "pt"})
        config = {
            "create_model": backbone.timm_kwargs | {"num_classes": 0},
            "normalize": spec.normalize,
            "image_size": spec.size,
            "width": backbone.dim,
        }
        write_json(folder / "backbone.json", config)

    def load(self, folder: Path) -> Loaded:
        config = read_json(folder / "backbone.json")
        spec = InputSpec(config["create_model"]["in_chans"], config["image_size"], config["normalize"])
        model = timm.create_model(**config["create_model"], checkpoint_path=folder / self.file).eval()
        return (lambda images: timm_outputs(model, images)), spec.mean, spec.std
