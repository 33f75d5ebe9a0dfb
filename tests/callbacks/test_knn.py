"""Online k-NN and collapse metrics, with labels and without."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import pytest
import torch

from cim_lightning.callbacks.knn import OnlineKNN
from cim_lightning.errors import ConfigError, RunError
from cim_lightning.evaluation.features import spread
from cim_lightning.models.backbone import Backbone, Features


class Colors(Backbone):
    """A backbone whose mean feature is the color of the image, and whose pooled feature is constant."""

    def __init__(self) -> None:
        super().__init__("colors", 3, 3, 1, mean=(0, 0, 0), std=(1, 1, 1))

    def compute_features(self, images: torch.Tensor) -> Features:
        return Features(torch.ones(len(images), 3), images)


def painted(classes: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return uniform images, near red, green or blue by class."""
    generator = torch.Generator().manual_seed(len(classes))
    colors = 200 * torch.eye(3)[[max(c, 0) for c in classes]] + 30 * torch.rand(
        len(classes), 3, generator=generator
    )
    return colors.to(torch.uint8)[:, :, None, None].expand(-1, -1, 4, 4), torch.tensor(classes)


def measure(train: list[int], val: list[int]) -> tuple[dict[str, Any], list[tuple[str, int]]]:
    requested, logged = [], {}

    def eval_dataloader(split: str, limit: int, rank: int, world_size: int) -> list[Any]:
        assert (rank, world_size) == (0, 1)
        requested.append((split, limit))
        return [painted(train if split == "train" else val)]

    trainer: Any = MagicMock(spec=L.Trainer, state=SimpleNamespace(fn="validate"))
    images = {"train": train, "val": val}
    trainer.datamodule = SimpleNamespace(eval_dataloader=eval_dataloader, images=images.__getitem__)
    trainer.global_rank, trainer.world_size, trainer.global_step = 0, 1, 7
    module = SimpleNamespace(
        eval_backbone=Colors(),
        device=torch.device("cpu"),
        log_dict=lambda metrics, sync_dist: logged.update(metrics),
    )
    OnlineKNN(10, 50, 7, 3, 0.07).on_validation_epoch_end(trainer, module)
    return logged, requested


def test_both_features_are_classified():
    logged, requested = measure([0, 1, 2] * 5, [0, 1, 2, 2])
    assert logged["val/knn"] == 100
    assert logged["val/knn_pooled"] < 100  # all pooled features are equal
    assert requested == [("val", 7), ("train", 50)]


def test_unlabeled_images_neither_vote_nor_are_classified():
    logged, _ = measure([-1] * 30 + [1, 2, 0] * 3, [2, -1, -1, 1])
    assert logged["val/knn"] == 100  # unlabeled images are red, yet red does not win


def test_without_labels_only_collapse_metrics_are_logged():
    logged, requested = measure([-1] * 9, [-1] * 5)
    assert logged.keys() == {"val/feature_std", "val/effective_rank"}
    assert requested == [("val", 7)]
    views, _ = painted([-1] * 5)
    expected = spread(views.float().mean(dim=(2, 3)) / 255)
    assert logged["val/feature_std"] == pytest.approx(expected, rel=1e-3)  # stored in fp16
    assert 1 <= logged["val/effective_rank"] <= 3


def test_features_that_are_not_finite_stop_the_run_with_a_line(monkeypatch):
    monkeypatch.setattr(Colors, "compute_features", lambda self, x: Features(x.mean(dim=(2, 3)) / 0, x))
    message = r"^stopped at step 7: the features of the val images are not finite; .* rate \(base_lr\), or"
    with pytest.raises(RunError, match=message):
        measure([0, 1, 2], [0, 1])


@pytest.mark.parametrize("name", ["every_n_epochs", "num_train", "num_val", "k"])
def test_a_count_below_1_is_rejected(name):
    arguments = {"every_n_epochs": 1, "num_train": 1, "num_val": 1, "k": 1, "temperature": 0.07} | {name: 0}
    with pytest.raises(ConfigError, match=f"^{name}=0: must be at least 1; try {name}=1$"):
        OnlineKNN(**arguments)


def test_a_trainer_without_images_for_evaluation_gets_one_line():
    trainer: Any = MagicMock(spec=L.Trainer)
    for trainer.datamodule in (None, SimpleNamespace(train_dataloader=None)):
        with pytest.raises(
            ConfigError, match=r"^OnlineKNN needs whole images and labels; pass an ImageData "
        ):
            OnlineKNN(1, 1, 1, 1, 0.07).setup(trainer, SimpleNamespace(), "fit")
