"""Weights of a ResNet for torchvision, and for the libraries that build on its layout."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model, list_models

from cim_lightning.atomic import read_json, replacing, write_json
from cim_lightning.errors import ConfigError
from cim_lightning.formats.format import Format, Loaded, Outputs, require_timm
from cim_lightning.models.backbone import Backbone

CLASSIFIER = "fc"


@dataclass
class TorchvisionFormat(Format):
    """backbone.pth, and torchvision.json with the model's name and the description of the images.

    `torchvision.models.get_model(name).load_state_dict(torch.load("backbone.pth"), strict=False)` leaves only
    the classifier `fc` at its initialization.
    """

    file = "backbone.pth"

    def write(self, backbone: Backbone, image_size: int, folder: Path) -> None:
        name = require_timm(backbone).name
        state = {
            key: tensor.detach().cpu()
            for key, tensor in require_timm(backbone).timm_model().state_dict().items()
        }
        self._check(name, state)
        with replacing(folder / self.file) as temporary:
            torch.save(state, temporary)
        config = {"model": name, **backbone.normalization, "image_size": image_size}
        write_json(folder / "torchvision.json", config)

    def load(self, folder: Path) -> Loaded:
        config = read_json(folder / "torchvision.json")
        model = get_model(config["model"], weights=None)
        model.fc = nn.Identity()
        model.load_state_dict(torch.load(folder / self.file, weights_only=True))
        return (lambda images: {"pooled": model.eval()(images)}), config["mean"], config["std"]

    def expected(self, backbone: Backbone, images: Tensor) -> Outputs:
        return {"pooled": backbone(images).pooled}

    @staticmethod
    def _check(name: str, state: dict[str, Any]) -> None:
        """Raise ConfigError unless torchvision has a model of this name with the same tensors."""
        shapes = {key: tensor.shape for key, tensor in state.items()}
        if name in list_models():
            with torch.device("meta"):
                model: Any = get_model(name, weights=None)
            expected = {key: tensor.shape for key, tensor in model.state_dict().items()}
            if shapes == {key: shape for key, shape in expected.items() if key.split(".")[0] != CLASSIFIER}:
                return
        rule = "torchvision has no model of this name with the same layout"
        raise ConfigError("backbone", name, rule, hint="try a ResNet, or format=timm")
