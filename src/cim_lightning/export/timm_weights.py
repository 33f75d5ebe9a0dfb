"""Weights alone, and a file that says how timm loads them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import save_file
from torch import Tensor

from cim_lightning.export.format import Format, Outputs
from cim_lightning.export.input_spec import Images, normalized
from cim_lightning.models.backbone import Backbone

RECIPE = "backbone.json"


class Weights(Format):
    """backbone.safetensors and backbone.json; see export_timm."""

    file = "backbone.safetensors"

    def write(self, backbone: Backbone, images: Images, folder: Path) -> None:
        export_timm(backbone, folder, images.normalize, images.size)

    def read(self, folder: Path) -> Callable[[Tensor], Outputs]:
        said = json.loads((folder / RECIPE).read_text())
        images = Images(said["create_model"]["in_chans"], said["image_size"], said["normalize"])
        model = timm.create_model(**said["create_model"], checkpoint_path=folder / self.file).eval()
        return lambda shown: outputs(model, normalized(shown, images.mean, images.std))

    def expected(self, backbone: Backbone, images: Tensor) -> Outputs:
        return outputs(backbone.model, images)


def outputs(model: Any, images: Tensor) -> Outputs:
    """What a timm model says of images "b c h w", by names of its own: of every place, and of the whole."""
    return {"forward_features": model.forward_features(images), "forward": model(images)}


def export_timm(backbone: Backbone, folder: Path, normalize: Any, image_size: int) -> None:
    """Writes backbone.safetensors and backbone.json.

    `timm.create_model(**json["create_model"], checkpoint_path="backbone.safetensors")` gives the backbone
    back, every key matched; json["normalize"] and json["image_size"] are what its images want: values of
    0..1 normalized so, squares of so many pixels.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in backbone.model.state_dict().items()}
    save_file(state, folder / Weights.file, metadata={"format": "pt"})
    recipe = {
        "create_model": backbone.timm_kwargs | {"num_classes": 0},
        "normalize": normalize,
        "image_size": image_size,
        "width": backbone.dim,
    }
    (folder / RECIPE).write_text(json.dumps(recipe, indent=2) + "\n")
