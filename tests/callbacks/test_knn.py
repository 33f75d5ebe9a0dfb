"""The online look at features: what is measured, with labels and without, and when."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import pytest
import torch
from torch import nn

from cim_lightning.callbacks.knn import OnlineKNN
from cim_lightning.evaluation.features import spread
from cim_lightning.models.backbone import Backbone, Features


class Colors(Backbone):
    """Its mean feature is an image's color; what it pools says nothing of it."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, images: torch.Tensor) -> Features:
        return Features(torch.ones(len(images), 3), images)


def painted(classes: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Uniform images, near red, green or blue by their class."""
    generator = torch.Generator().manual_seed(len(classes))
    colors = 200 * torch.eye(3)[[max(c, 0) for c in classes]] + 30 * torch.rand(
        len(classes), 3, generator=generator
    )
    return colors.to(torch.uint8)[:, :, None, None].expand(-1, -1, 4, 4), torch.tensor(classes)


def look(train: list[int], val: list[int]) -> tuple[dict[str, Any], list[tuple[str, int]]]:
    asked, logged = [], {}

    def center_crop_dataloader(split: str, limit: int) -> list[Any]:
        asked.append((split, limit))
        return [painted(train if split == "train" else val)]

    data = SimpleNamespace(
        center_crop_dataloader=center_crop_dataloader,
        cropping=SimpleNamespace(normalize=lambda images: images),
    )
    trainer: Any = MagicMock(spec=L.Trainer, state=SimpleNamespace(fn="validate"))
    trainer.datamodule = data
    module = SimpleNamespace(
        eval_backbone=Colors(),
        device=torch.device("cpu"),
        log_dict=lambda metrics, sync_dist: logged.update(metrics),
    )
    OnlineKNN(10, 50, 7, 3, 0.07).on_validation_epoch_end(trainer, module)
    return logged, asked


def test_labels_are_told_from_the_mean_over_the_grid():
    logged, asked = look([0, 1, 2] * 5, [0, 1, 2, 2])
    assert logged["val/knn"] == 1
    assert logged["val/knn_pooled"] < 1  # all pooled features are the same
    assert asked == [("val", 7), ("train", 50)]


def test_images_without_a_label_neither_vote_nor_are_asked():
    logged, _ = look([-1] * 30 + [1, 2, 0] * 3, [2, -1, -1, 1])
    assert logged["val/knn"] == 1  # unlabeled images are red, yet no red neighbor wins


def test_without_labels_the_shape_of_features_is_watched_alone():
    logged, asked = look([-1] * 9, [-1] * 5)
    assert logged.keys() == {"val/feature_std", "val/effective_rank"}
    assert asked == [("val", 7)]
    views, _ = painted([-1] * 5)
    assert logged["val/feature_std"] == pytest.approx(spread(views.float().mean(dim=(2, 3)) / 255))
    assert 1 <= logged["val/effective_rank"] <= 3


@pytest.mark.parametrize(
    ("epoch", "step", "due"),
    [
        (0, 10, False),
        (1, 20, False),
        (2, 30, True),
        (3, 40, False),
        (5, 60, True),
        (7, 80, True),
        (6, 100, True),
    ],
)
def test_it_looks_every_few_epochs_and_at_the_end(epoch, step, due):
    trainer: Any = MagicMock(
        spec=L.Trainer, max_epochs=8, current_epoch=epoch, global_step=step, estimated_stepping_batches=100
    )
    assert OnlineKNN(3, 1, 1, 1, 0.07)._due(trainer) is due
