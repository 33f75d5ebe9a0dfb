"""The attentive probe: a class that only a few cells carry, stored grids, and the choice of the rate."""

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.source import Splits
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.attentive import AttentiveProbe
from cim_lightning.evaluation.attentive_module import AttentiveModule
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.frozen_grids import FrozenGridsData, extract_grids, grid_bytes
from cim_lightning.evaluation.knn import KNN
from cim_lightning.evaluation.trainer_factory import TrainerFactory
from cim_lightning.models.backbone import Backbone, Features

CPU = torch.device("cpu")
SETTINGS = {
    "lrs": [1e-6, 0.01],
    "epochs": 8,
    "batch_size": 32,
    "weight_decay": 0.01,
    "val_fraction": 0.1,
    "max_cache_gb": 1.0,
    "num_train": None,
    "num_val": None,
}


class MarkedPixels:
    """Images of 6 x 6 pixels. Two pixels are marked by blue; the class is whether they are bright in red.

    The other pixels are random, and their sum makes the mean red of every image equal.
    """

    classes = ("dark", "bright")

    def __init__(self, count: int, seed: int, shuffled: bool = False, unlabeled: int = 0):
        rng = np.random.default_rng(seed)
        self.labels, self.images = rng.integers(0, 2, count), []
        for label in self.labels:
            marked, *others = np.split(rng.permutation(36), [2])
            image = np.zeros((36, 3), np.uint8)
            image[marked] = (170 * label, 0, 200)
            noise = rng.integers(-60, 61, 34)
            noise = np.where(np.arange(34) < 17, noise, -np.roll(noise, 17))  # its sum is 0
            image[others[0], 0] = noise + 100 - 10 * label  # 34 * 100, or 34 * 90 + 2 * 170
            self.images.append(image.reshape(6, 6, 3))
        if shuffled:
            self.labels = rng.permutation(self.labels)
        self.labels[:unlabeled] = -1

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]), int(self.labels[index])


class Pixels(Backbone):
    """A backbone whose cells are the pixels: red and blue, and their negatives. It counts the images."""

    def __init__(self) -> None:
        super().__init__("pixels", 4, 3, 1, mean=(0.4, 0, 0.4), std=(0.4, 1, 0.4))
        self.passes = 0

    def compute_features(self, images: torch.Tensor) -> Features:
        self.passes += len(images)
        grid = torch.stack((images[:, 0], images[:, 2], -images[:, 0], -images[:, 2]), dim=1)
        return Features(grid.mean(dim=(2, 3)), grid)


TRAIN, VAL = MarkedPixels(400, 0), MarkedPixels(200, 1)


def context(folder: Path, train: Any = TRAIN, val: Any = VAL, seed: int = 0) -> EvalContext:
    splits = Splits(train, val)
    data = ImageData(lambda: splits, lambda views, seed: views, 50, 0, 6, (1, 1), (1, 1), 0, 3)
    return EvalContext(Pixels(), None, data, CPU, folder, seed, {})


def probe(**changes: Any) -> AttentiveProbe:
    return AttentiveProbe(**SETTINGS | changes)


def test_attention_finds_the_cells_that_carry_the_class_and_the_mean_does_not(tmp_path):
    built = context(tmp_path)
    assert probe()(built)["grid"] > 97
    assert built.protocol["lr"] == 0.01
    assert built.protocol["held_out_accuracy"] > 90
    assert (built.protocol["train_images"], built.protocol["held_out_images"]) == (360, 40)
    assert built.protocol["val_images"] == built.num_images("val", None)
    assert {"features", "epochs", "batch_size", "weight_decay"} <= built.protocol.keys()
    assert abs(KNN([20], 0.07, None, None)(built)["mean_k20"] - 50) < 12


def test_shuffled_labels_give_chance(tmp_path):
    built = context(tmp_path, MarkedPixels(400, 0, shuffled=True))
    assert abs(probe(epochs=4)(built)["grid"] - 50) < 14


def test_stored_and_computed_grids_give_the_same_classifier(tmp_path):
    built = [context(tmp_path / name) for name in ("stored", "computed")]
    probes = [probe(epochs=3, max_cache_gb=limit) for limit in (1.0, 0.0)]
    accuracies = [part(on)["grid"] for part, on in zip(probes, built, strict=True)]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=1)
    weights = [load_file(next(on.folder.rglob("weights.safetensors"))) for on in built]
    for name, tensor in weights[0].items():  # grids are stored in fp16
        torch.testing.assert_close(tensor, weights[1][name], atol=1e-2, rtol=1e-2)
    assert [on.protocol["stored_feature_maps"] for on in built] == [True, False]
    # 360 training images once, or three times without the last batch of 8; 40 held out, 200 to classify.
    assert [on.backbone.passes for on in built] == [600, 3 * 352 + 240]
    assert [part.forward_passes(on) for part, on in zip(probes, built, strict=True)] == [600, 1400]


def test_the_size_of_the_grids_is_told_in_advance(tmp_path):
    built = context(tmp_path)
    grids = extract_grids(built, range(30))
    assert grids.grids.dtype == torch.float16
    assert grid_bytes(built, 30) == grids.grids.numel() * 2


def test_the_grids_are_those_of_the_images_in_the_given_order(tmp_path):
    built, indices = context(tmp_path), [7, 3, 399, *range(60)]
    grids, labels = extract_grids(built, indices)
    assert labels.tolist() == [TRAIN.labels[i] for i in indices]
    pixels = torch.tensor(np.stack([TRAIN.images[i][..., 2] for i in indices])) / 255
    torch.testing.assert_close(grids[:, 1].float(), (pixels - 0.4) / 0.4, atol=1e-3, rtol=1e-3)


def test_an_epoch_without_a_trainer_has_every_full_batch():
    def load(sampler):
        return DataLoader(range(15), batch_sampler=sampler)  # pyright: ignore

    assert len(FrozenGridsData(load, 15, 5, 0).train_dataloader()) == 3


def test_unlabeled_images_are_left_out(tmp_path):
    built = context(tmp_path, MarkedPixels(50, 0, unlabeled=20), MarkedPixels(40, 1, unlabeled=30))
    probe(epochs=1)(built)
    assert built.protocol["train_images"] + built.protocol["held_out_images"] == 30
    module = AttentiveModule(built.backbone, 2, [0.1], 0.0)
    (accuracy,) = module.accuracies(built.batches("val", None))
    assert accuracy in {10.0 * k for k in range(11)}  # of ten labeled images


def test_classifiers_trained_together_equal_those_trained_alone(tmp_path):
    weights = []
    for i, lrs in enumerate(([1e-3, 1e-2], [1e-3], [1e-2])):
        probe(epochs=1, lrs=lrs)(context(tmp_path / str(i)))
        weights.append(load_file(next((tmp_path / str(i)).rglob("weights.safetensors"))))
    together, *alone = weights
    for i, single in enumerate(alone):
        for name, tensor in single.items():
            torch.testing.assert_close(together[name.replace("rs.0.", f"rs.{i}.", 1)], tensor)


def test_each_classifier_has_its_rate_a_cosine_schedule_and_decay_on_matrices():
    module = AttentiveModule(Pixels(), 2, [0.1, 0.2], weight_decay=0.5)
    module._trainer = SimpleNamespace(estimated_stepping_batches=10)
    configured = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1, 0.2, 0.2]
    for group in optimizer.param_groups:
        assert all((p.ndim == 2) == (group["weight_decay"] == 0.5) for p in group["params"])
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(module.parameters()))
    rates = []
    for _ in range(10):
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[3]["lr"])
    assert rates[4] == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_an_image_set_that_is_too_small_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"^1 labeled training image"):
        probe()(context(tmp_path, MarkedPixels(21, 0, unlabeled=20)))


@pytest.mark.parametrize(
    ("name", "value"),
    [("lrs", []), ("lrs", [-1.0]), ("val_fraction", 0.0), ("epochs", 0), ("batch_size", 0), ("num_train", 1)],
)
def test_invalid_settings_raise(name, value):
    with pytest.raises(ConfigError, match=rf"^{name}=.*; try {name}="):
        probe(**{name: value})


def test_a_batch_has_an_image_for_each_accumulated_batch(tmp_path):
    given = context(tmp_path)
    settings = {"accelerator": "cpu", "devices": 1, "accumulate_grad_batches": 4}
    given.trainer = TrainerFactory(functools.partial(L.Trainer, **settings))
    with pytest.raises(ConfigError, match=r"^batch_size=3: .*; try batch_size=4$"):
        probe(batch_size=3)(given)
