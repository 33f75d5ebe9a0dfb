"""Fixtures of the cropping tests: the paper's cropping at a quarter of its sizes, and views."""

import pytest
import torch

from cim_lightning.cropping.appearance import Appearance
from cim_lightning.cropping.exemplars import ExemplarCropper


@pytest.fixture(scope="session")
def paper_colors():
    jitter = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "jitter_prob": 0.8}
    return jitter | {"grayscale": 0.2, "blur": 0.5, "blur_sigma": [0.1, 2.0], "solarize": 0.2}


@pytest.fixture(scope="session")
def cropper(paper_colors):
    """Build a cropper with the paper's boxes and colors, and some settings changed."""

    def build(**changes) -> ExemplarCropper:
        settings = {"num_exemplars": 3, "scale": [0.05, 0.48], "ratio": [1 / 3, 3.0], "rotation": 45.0}
        settings |= {"context_size": 40, "exemplar_size": 16, "flip": 0.5}
        settings |= {"appearance": Appearance(**paper_colors)}
        return ExemplarCropper(**settings | changes)

    return build


@pytest.fixture(scope="session")
def plain(cropper):
    """Build a cropper without flips and color augmentation."""

    def build(**changes) -> ExemplarCropper:
        return cropper(**{"flip": 0.0, "appearance": None} | changes)

    return build


@pytest.fixture
def views() -> torch.Tensor:
    size = (4, 3, 56, 56)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
