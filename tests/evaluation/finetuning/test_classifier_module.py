"""The steps of a classifier by hand: momentum, schedule, learning rate, weight average, accuracies."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cim_lightning.data.augmentation import RandAugmentCrop
from cim_lightning.data.batch import Batch, Samples
from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.sampler import ResumableBatchSampler
from cim_lightning.data.source import Splits
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.finetuning.classifier_module import ClassifierModule
from cim_lightning.evaluation.finetuning.classifier_training import ClassifierTraining
from cim_lightning.evaluation.finetuning.layer_decay import LayerDecayOptim
from cim_lightning.evaluation.finetuning.mixup_cutmix import MixupCutmix
from cim_lightning.evaluation.fitting import validate
from cim_lightning.evaluation.trainer_factory import TrainerFactory
from cim_lightning.models.classifier import Classifier
from cim_lightning.models.timm_backbone import TimmBackbone

NUM_TRAIN, NUM_CLASSES, SIDE, EPOCHS = 14, 7, 8, 3
MICRO_BATCH, ACCUMULATE = 2, 3  # two steps of 6 images per epoch, 2 images left over
LR, LR_FOR, MOMENTUM, WEIGHT_DECAY, WARMUP, EMA = 3.0, 12, 0.9, 0.01, 1 / 3, 0.75


class Noise:
    """Images of random pixels, with the labels 0, 1, ..., 6, 0, 1, ..."""

    def __init__(self, count: int):
        self.pixels = np.random.default_rng(3).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
        self.classes = [*"abcdefg"]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.pixels[index]), index % NUM_CLASSES


def backbone() -> TimmBackbone:
    torch.manual_seed(0)
    kwargs = {"patch_size": 4, "img_size": SIDE, "embed_dim": 12, "depth": 1, "num_heads": 3}
    return TimmBackbone("vit_tiny_patch16_224", kwargs, "timm", False, "timm").eval()


def context(folder: Path, accumulate: int = ACCUMULATE) -> EvalContext:
    splits = Splits(Noise(NUM_TRAIN), Noise(9))
    data = ImageData(lambda: splits, lambda views, seed: views, 4, 0, SIDE, (1, 1), (1, 1), 0.0, 0)  # pyright: ignore
    settings = {"accumulate_grad_batches": accumulate, "enable_model_summary": False, "log_every_n_steps": 1}
    factory = TrainerFactory(partial(L.Trainer, accelerator="cpu", devices=1, **settings))
    return EvalContext(backbone(), None, data, torch.device("cpu"), folder, 5, {}, trainer=factory)


def training(**changes: Any) -> ClassifierTraining:
    sgd = partial(torch.optim.SGD, momentum=MOMENTUM)
    settings: dict[str, Any] = {
        "finetune": False,
        "features": "mean",
        "drop_path": 0.0,
        "epochs": EPOCHS,
        "batch_size": MICRO_BATCH * ACCUMULATE,
        "aug_repeats": 1,
        "view": RandAugmentCrop(SIDE, (1, 1), (1, 1), 0.0, None),
        "mixing": MixupCutmix(0.0, 0.0, 0.0, 0.0),
        "loss": nn.CrossEntropyLoss,
        "optim": LayerDecayOptim(sgd, LR, LR_FOR, 1.0, WEIGHT_DECAY, WARMUP, "cosine"),
        "ema": EMA,
        "num_train": None,
    }
    return ClassifierTraining(**settings | changes)


def linear(classifier: Any) -> nn.Linear:
    return classifier.head[1]


def by_hand(context: EvalContext, weight: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return weight and bias of a probe after every step, from its first weight, without autograd."""
    source: Any = context.data.splits.train
    indices = context.data.labeled_indices(None)
    pixels = torch.from_numpy(source.pixels[indices]).permute(0, 3, 1, 2).float() / 255
    labels = torch.tensor(indices) % NUM_CLASSES
    with torch.no_grad():
        features = context.backbone(context.backbone.normalize(pixels)).grid.mean(dim=(2, 3))
    keys = np.array(indices, np.uint64)  # images without names
    order = ResumableBatchSampler(keys, MICRO_BATCH, context.seed, lambda: 0, accumulate=ACCUMULATE)
    batches, bias = iter(order), torch.zeros(NUM_CLASSES)
    velocity = [torch.zeros_like(weight), torch.zeros_like(bias)]
    steps = EPOCHS * (NUM_TRAIN // (MICRO_BATCH * ACCUMULATE))
    weights, biases = [], []
    for step in range(steps):
        gradient = [WEIGHT_DECAY * weight, torch.zeros_like(bias)]
        for _ in range(ACCUMULATE):
            chosen = [index for _, index in next(batches)]
            x, y = features[chosen], labels[chosen]
            x = (x - x.mean(dim=0)) / torch.sqrt(x.var(dim=0, correction=0) + 1e-5)
            error = (x @ weight.T + bias).softmax(dim=1) - torch.eye(NUM_CLASSES)[y]
            gradient[0] = gradient[0] + error.T @ x / MICRO_BATCH / ACCUMULATE
            gradient[1] = gradient[1] + error.mean(dim=0) / ACCUMULATE
        velocity = [MOMENTUM * v + g for v, g in zip(velocity, gradient, strict=True)]
        warmup = WARMUP * steps
        decay = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
        lr = LR * MICRO_BATCH * ACCUMULATE / LR_FOR * (step / warmup if step < warmup else decay)
        weight, bias = weight - lr * velocity[0], bias - lr * velocity[1]
        weights.append(weight)
        biases.append(bias)
    return weights, biases


def test_all_steps_of_a_probe_equal_those_by_hand(tmp_path: Path) -> None:
    built = context(tmp_path)
    first = training(epochs=1, optim=LayerDecayOptim(torch.optim.SGD, 1e-30, None, 1.0, 0.0, 0.0, "cosine"))
    weight = linear(first.train(built, 0)[0].model).weight.detach().clone()
    weights, biases = by_hand(built, weight)
    module, _ = training().train(built, 0)
    torch.testing.assert_close(linear(module.model).weight.data, weights[-1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(linear(module.model).bias.data, biases[-1], atol=1e-5, rtol=1e-4)
    average = weights[0]
    for weight in weights[1:]:
        average = EMA * average + (1 - EMA) * weight
    torch.testing.assert_close(linear(module.classifier).weight.data, average, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(weights[0], weights[-1], atol=1e-2)


class RecordDraws(MixupCutmix):
    """Records numbers of the global random streams in each call."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._draws: list[tuple[float, float]] = []

    def __call__(self, images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        self._draws.append((np.random.rand(), torch.rand(()).item()))  # noqa: NPY002
        return super().__call__(images, labels, classes)


def test_every_micro_batch_has_its_own_random_numbers(tmp_path: Path) -> None:
    mixing = RecordDraws(0.0, 0.0, 0.0, 0.0)
    training(mixing=mixing)(context(tmp_path))
    assert len(mixing._draws) == 2 * EPOCHS * ACCUMULATE
    for stream in zip(*mixing._draws, strict=True):
        assert len(set(stream)) == len(stream)


class Scores(Classifier):
    """The logits of an image are its gray values."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.backbone, self.finetune = nn.Identity(), True  # pyright: ignore

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, 0]


class Validation(L.LightningDataModule):
    def __init__(self, *batches: Batch):
        super().__init__()
        self.batches = batches

    def val_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(self.batches, batch_size=None)  # pyright: ignore


def batch_of_ranks(*ranks: int) -> Batch:
    """Images of seven scores 60, 50, ..., 0 for the classes 0, 1, ..., 6; label r has rank r + 1."""
    scores = torch.arange(60, -1, -10, dtype=torch.uint8).expand(len(ranks), 3, 1, 7)
    numbers = np.zeros(len(ranks), np.int64)
    samples = Samples(numbers, numbers, numbers)
    return Batch(scores.clone(), torch.tensor(ranks) - 1, torch.from_numpy(numbers), samples)


@pytest.mark.parametrize(
    ("batches", "top1", "top5"),
    [
        ([(1, 2, 5, 6)], 25.0, 75.0),
        ([(1, 1, 1, 1), (7,)], 80.0, 80.0),  # batches of different sizes: every image counts the same
        ([(0, 0), (1, 6, 0)], 50.0, 50.0),  # without the images that have no label
    ],
)
def test_accuracies_in_percent(batches: list, top1: float, top5: float, tmp_path: Path) -> None:
    optim = LayerDecayOptim(torch.optim.SGD, 1.0, None, 1.0, 0.0, 0.0, "cosine")
    module = ClassifierModule(Scores(), 7, nn.CrossEntropyLoss(), MixupCutmix(0, 0, 0, 0), optim, 8, None)
    for _ in range(2):  # the second validation starts anew
        metrics = validate(module, Validation(*(batch_of_ranks(*b) for b in batches)), context(tmp_path))
        assert metrics == {"val/top1": pytest.approx(top1), "val/top5": pytest.approx(top5)}


def test_the_averaged_weights_are_validated(tmp_path: Path) -> None:
    built = context(tmp_path)
    module, data = training().train(built, None)
    before = validate(module, data, built)
    linear(module.model).bias.data[:] = torch.tensor([100.0, 0, 0, 0, 0, 0, 0])  # the last step, not the mean
    assert validate(module, data, built) == before
    linear(module.classifier).bias.data[:] = torch.tensor([100.0, 0, 0, 0, 0, 0, 0])
    assert validate(module, data, built)["val/top1"] == pytest.approx(100 * 2 / 9)  # images 0 and 7 of 9


def test_the_statistics_of_batch_normalization_are_averaged_too() -> None:
    model = Classifier(backbone(), NUM_CLASSES, finetune=False, features="mean", drop_path=0.0)
    optim = LayerDecayOptim(torch.optim.SGD, 1.0, None, 1.0, 0.0, 0.0, "cosine")
    module = ClassifierModule(
        model, NUM_CLASSES, nn.CrossEntropyLoss(), MixupCutmix(0, 0, 0, 0), optim, 8, 0.75
    )
    statistics: Any = model.head[0]
    for mean in (2.0, 6.0):  # the first update copies
        statistics.running_mean.fill_(mean)
        module.average.update_parameters(model)
    averaged: Any = module.classifier.head[0]
    torch.testing.assert_close(averaged.running_mean, torch.full((12,), 0.75 * 2 + 0.25 * 6))
