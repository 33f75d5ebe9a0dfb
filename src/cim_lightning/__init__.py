"""Correlational Image Modeling (Li, Xie, Loy, CVPR 2023) as a PyTorch Lightning + Hydra experiment suite."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cim_lightning.cropping.exemplars import ExemplarCropper
    from cim_lightning.data.datamodule import ImageData
    from cim_lightning.methods.cim import CIM
    from cim_lightning.models.backbone import Backbone
    from cim_lightning.models.decoder import CorrelationDecoder

__all__ = ["CIM", "Backbone", "CorrelationDecoder", "ExemplarCropper", "ImageData"]

_MODULES = {
    "CIM": "methods.cim",
    "Backbone": "models.backbone",
    "CorrelationDecoder": "models.decoder",
    "ExemplarCropper": "cropping.exemplars",
    "ImageData": "data.datamodule",
}


def __getattr__(name: str) -> Any:
    """Import a public class on first use, so that commands report errors before torch is loaded."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
