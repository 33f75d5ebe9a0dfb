"""The online k-NN: which numbers, from which images, and in which epochs."""

from unittest.mock import Mock

import pytest
import torch

from cim_lightning.models.backbone import Backbone
from cim_lightning.monitors.neighbours import OnlineNeighbours

ALWAYS = {"val/feature_std", "val/effective_rank"}
COLOURS = torch.tensor([[250, 0, 0], [0, 250, 0], [0, 0, 250]], dtype=torch.uint8)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    settings = {"in_channels": 3, "positions": "timm", "freeze_patch_embed": False, "init": "timm"}
    small = {"depth": 1, "embed_dim": 24, "num_heads": 2, "patch_size": 8, "img_size": 16}
    return Backbone("vit_tiny_patch16_224", small, **settings).train()


class Plain:
    """Images of one colour each, whose label is the colour; batches of 4."""

    def __init__(self, train: list[int], val: list[int]):
        self.labels = {"train": torch.tensor(train), "val": torch.tensor(val)}
        self.asked: dict[str, int] = {}
        self.cropping = Mock(normalize=lambda images: images - 0.5)

    def whole_dataloader(self, split: str, limit: int):
        self.asked[split] = limit
        labels = self.labels[split]
        views = COLOURS[torch.arange(len(labels)) % 3][:, :, None, None].expand(-1, -1, 16, 16)
        return list(zip(views.split(4), labels.split(4), strict=True))


@pytest.fixture
def validate(backbone, make_trainer):
    """What a validation logs."""

    def validate(data: Plain, every: int = 1, **changes) -> dict[str, float]:
        module = Mock(backbone=backbone, device=torch.device("cpu"))
        monitor = OnlineNeighbours(every, num_train=12, num_val=6, k=2, temperature=0.07)
        monitor.on_validation_epoch_end(make_trainer(datamodule=data, **changes), module)
        assert backbone.training  # as it was
        return module.log_dict.call_args.args[0] if module.log_dict.called else {}

    return validate


TRAIN, VAL = [0, 1, 2] * 4, [0, 1, 2] * 2


def test_with_labels_classes_that_differ_by_colour_are_told_apart(validate):
    data = Plain(TRAIN, VAL)
    logged = validate(data)
    assert set(logged) == {*ALWAYS, "val/knn", "val/knn_pooled"}
    assert logged["val/knn"] == logged["val/knn_pooled"] == 1
    assert data.asked == {"train": 12, "val": 6}
    assert 0 < logged["val/feature_std"] < 1
    assert 1 < logged["val/effective_rank"] < 2.1  # three colours span two dimensions about their mean


def test_wrong_labels_are_never_predicted(validate):
    logged = validate(Plain(TRAIN, [1, 2, 0] * 2))
    assert logged["val/knn"] == logged["val/knn_pooled"] == 0


def test_without_labels_there_is_no_accuracy_and_training_images_are_not_read(validate):
    data = Plain([-1] * 12, [-1] * 6)
    assert set(validate(data)) == ALWAYS
    assert data.asked == {"val": 6}


def test_images_without_a_label_neither_vote_nor_ask(validate):
    some = [0, 1, 2, -1, -1, -1] * 2
    logged = validate(Plain(some, [0, 1, 2, -1, -1, -1]))
    assert logged["val/knn"] == 1


def test_a_training_set_without_any_label_gives_no_accuracy(validate):
    assert set(validate(Plain([-1] * 12, VAL))) == ALWAYS


def test_numbers_are_floats_which_lightning_puts_on_the_device_where_they_are_summed(validate):
    assert {type(value) for value in validate(Plain(TRAIN, VAL)).values()} == {float}


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        ({"current_epoch": 2}, True),  # epochs count from 0
        ({"current_epoch": 3}, False),
        ({"current_epoch": 9}, True),  # the last of 10
        ({"current_epoch": 3, "global_step": 100}, True),  # the last step
        ({"current_epoch": 3, "max_epochs": None}, False),
        ({"current_epoch": 0, "fn": "validate"}, True),  # before training
    ],
)
def test_epochs_when_it_is_due(validate, changes, due):
    assert bool(validate(Plain([-1], [-1, -1]), every=3, **changes)) == due
