"""The backbone alone, as timm loads it."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from cim_lightning.models.backbone import Backbone


def export_timm(backbone: Backbone, folder: Path, normalize: Any, image_size: int) -> None:
    """Writes backbone.safetensors and backbone.json.

    `timm.create_model(**json["create_model"], checkpoint_path="backbone.safetensors")` gives the backbone
    back, every key matched; json["normalize"] and json["image_size"] are what its images want.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in backbone.model.state_dict().items()}
    save_file(state, folder / "backbone.safetensors", metadata={"format": "pt"})
    recipe = {
        "create_model": backbone.recipe | {"num_classes": 0},
        "normalize": normalize,
        "image_size": image_size,
        "width": backbone.dim,
    }
    (folder / "backbone.json").write_text(json.dumps(recipe, indent=2) + "\n")
