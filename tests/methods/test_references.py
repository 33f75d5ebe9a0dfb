"""The references of every comparison: supervised training, and an untrained backbone."""

import math
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F

from cim_lightning.cropping.masking import MaskedCropper
from cim_lightning.cropping.resize import ResizeCropper
from cim_lightning.errors import ConfigError
from cim_lightning.methods.random import Random
from cim_lightning.methods.supervised import Supervised


@pytest.fixture
def supervised(vit, views):
    """Build a supervised method for a number of classes, and a batch for it."""

    def build(num_classes: int | None) -> tuple:
        model, crops = Supervised(vit(), Mock), ResizeCropper(16)(views, 0)
        model.prepare(crops, num_classes)
        return model, crops

    return build


def test_the_loss_is_cross_entropy_over_labeled_images(supervised, normalize):
    model, crops = supervised(3)
    labels = torch.tensor([0, 2, -1, 1, -1, 2])
    labeled = labels >= 0
    logits = model.classifier(model.backbone(normalize(crops.images)).pooled)
    metrics = model.compute_batch_losses((crops, labels))
    torch.testing.assert_close(metrics["loss"], F.cross_entropy(logits[labeled], labels[labeled]))
    correct = (logits.argmax(dim=1) == labels)[labeled].tolist()
    assert metrics["accuracy"].item() == pytest.approx(100 * sum(correct) / 4)
    unlabeled = model.compute_batch_losses((crops, torch.full((6,), -1)))
    assert unlabeled["loss"] == 0
    unlabeled["loss"].backward()
    assert model.classifier.weight.grad is not None


def test_the_loss_of_a_uniform_classifier_is_the_log_of_the_number_of_classes(supervised):
    model, crops = supervised(5)
    torch.nn.init.zeros_(model.classifier.weight)
    torch.nn.init.zeros_(model.classifier.bias)
    loss = model.compute_batch_losses((crops, torch.arange(6) % 5))["loss"]
    assert loss.item() == pytest.approx(math.log(5))


def test_missing_labels_are_reported_in_one_line(supervised):
    with pytest.raises(
        ConfigError, match=r"^the images have no labels, [^\n]*; put them into class folders$"
    ):
        supervised(None)


def test_a_checkpoint_restores_the_width_of_the_classifier(supervised, vit):
    model, _ = supervised(3)
    restored = Supervised(vit(), Mock)
    restored.load_state_dict(model.state_dict())
    assert torch.equal(restored.classifier.weight, model.classifier.weight)


def test_prepare_does_not_replace_a_restored_classifier(supervised, views):
    model, crops = supervised(3)
    weight = model.classifier.weight
    model.prepare(crops, 3)
    assert model.classifier.weight is weight


def test_random_does_not_train(vit, views):
    model, crops = Random(vit(), Mock), ResizeCropper(16)(views, 0)
    model.prepare(crops, None)
    assert not model.trains
    assert Supervised.trains
    assert model.compute_losses(crops)["loss"] == 0


def test_the_cropping_of_another_method_is_reported_in_one_line(vit, views):
    with pytest.raises(
        ConfigError, match=r"^Random needs [^\n]* ImageBatch, not MaskedImages; leave [^\n]*$"
    ):
        Random(vit(), Mock).prepare(MaskedCropper(16, 4, 0.5)(views, 0), None)
