"""Every evaluator on images other than RGB: floats of two channels."""

import numpy as np
import pytest
import torch

from cim_lightning.api import evaluate
from cim_lightning.cropping.resize import ResizeCropper
from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.source import Splits
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.corruptions.catalog import CORRUPTIONS
from cim_lightning.models.timm_backbone import TimmBackbone

SHAPE = {"patch_size": 8, "img_size": 16, "embed_dim": 12, "depth": 2, "num_heads": 2}


class TwoBands:
    """Images whose first channel is bright in the first class, and whose second is bright in the other."""

    classes = ("left", "right")

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        image = np.random.default_rng(index).uniform(0, 0.2, (20, 24, 2)).astype(np.float32)
        image[..., index % 2] += 0.7
        return image, index % 2


@pytest.fixture
def data() -> ImageData:
    images = TwoBands()
    size = {"batch_size": 8, "view_size": 16, "view_scale": (0.5, 1), "view_ratio": (1, 1)}
    return ImageData(lambda: Splits(images, images), ResizeCropper(16), **size, channels=2, bits=32)  # pyright: ignore


@pytest.fixture
def backbone() -> TimmBackbone:
    torch.manual_seed(0)
    scale = {"mean": [0.5, 0.5], "std": [0.3, 0.3]}
    return TimmBackbone("vit_tiny_patch16_224", SHAPE | {"dynamic_img_size": True}, in_channels=2, **scale)


@pytest.mark.user_input("pixels", "evaluation of images of two float channels", "what is not RGB only runs")
def test_evaluators_of_images_run(data, backbone, tmp_path):
    short = [
        "evaluation.attentive.epochs=2",
        "evaluation.attentive.max_cache_gb=0",
        "evaluation.linear.epochs=2",
    ]
    short += [
        "evaluation.finetune.classifier.epochs=2",
        "evaluation.robustness.corruptions=[]",
        "trainer=cpu",
    ]
    short += ["evaluation.robustness.drop_patches=2", "evaluation.robustness.shuffle_patches=[2]"]
    names = ["knn", "linear", "attentive", "representation", "finetune", "robustness"]
    metrics = evaluate(backbone, data, names, *short, folder=tmp_path)
    assert {name.partition("/")[0] for name in metrics} == {*names}
    assert metrics["knn/mean_k1"] == 100  # the classes differ in the brighter channel
    assert (tmp_path / "attention.png").exists()


def test_corruptions_are_for_rgb_images_only(data, backbone):
    reason = r"robustness needs a backbone for RGB images, not for 2 channel\(s\), or corruptions=\[\]"
    assert len(CORRUPTIONS) == 15
    with pytest.raises(ConfigError, match=reason):
        evaluate(backbone, data, "robustness")
