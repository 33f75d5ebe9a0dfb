"""Fixture that builds an EvalContext."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.features import FeatureSet
from cim_lightning.models.timm_backbone import TimmBackbone


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., EvalContext]:
    """Build a context of a tiny backbone, with the given method, data, and features by split."""

    def build(method: Any = None, data: Any = None, **features: FeatureSet) -> EvalContext:
        backbone = TimmBackbone("test_resnet", {}, "timm", False, "timm").eval()
        data = data or SimpleNamespace(view=SimpleNamespace(size=32))
        built = EvalContext(backbone, method, data, torch.device("cpu"), tmp_path, 0, {})
        built._features |= {(split, None, 1): of_split for split, of_split in features.items()}
        return built

    return build
