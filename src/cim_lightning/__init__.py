"""Correlational Image Modeling (Li, Xie, Loy, CVPR 2023) as a PyTorch Lightning + Hydra experiment suite."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cim_lightning.api import compose, evaluate, export, load, load_backbone
    from cim_lightning.cropping.exemplars import ExemplarCropper
    from cim_lightning.data.datamodule import ImageData
    from cim_lightning.methods.cim import CIM
    from cim_lightning.methods.method import Method
    from cim_lightning.models.backbone import Backbone
    from cim_lightning.models.decoder import CorrelationDecoder
    from cim_lightning.models.module_backbone import ModuleBackbone
    from cim_lightning.models.timm_backbone import TimmBackbone

__all__ = [
    "CIM",
    "Backbone",
    "CorrelationDecoder",
    "ExemplarCropper",
    "ImageData",
    "Method",
    "ModuleBackbone",
    "TimmBackbone",
    "compose",
    "evaluate",
    "export",
    "load",
    "load_backbone",
]

_MODULES = {
    "CIM": "methods.cim",
    "Backbone": "models.backbone",
    "CorrelationDecoder": "models.decoder",
    "ExemplarCropper": "cropping.exemplars",
    "ImageData": "data.datamodule",
    "Method": "methods.method",
    "ModuleBackbone": "models.module_backbone",
    "TimmBackbone": "models.timm_backbone",
    "compose": "api",
    "evaluate": "api",
    "export": "api",
    "load": "api",
    "load_backbone": "api",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that commands report errors before torch is loaded."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
