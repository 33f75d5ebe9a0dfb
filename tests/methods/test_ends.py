"""The two ends of the scale: with labels, and without training."""

import math
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F

from cim_lightning.cropping.resize import ResizeCropper
from cim_lightning.errors import ConfigError
from cim_lightning.methods.random import Random
from cim_lightning.methods.supervised import Supervised


def trainer(classes: list[str] | None, crops) -> Mock:
    made = Mock(accumulate_grad_batches=1, check_val_every_n_epoch=1, precision="32-true")
    made.datamodule.splits.train.classes = classes
    made.datamodule.dummy_batch.return_value = crops
    return made


def test_labels_are_learned_by_cross_entropy_and_unknown_ones_passed_over(vit, views):
    model, crops = Supervised(vit(), Mock), ResizeCropper(16)(views, 0)
    model._trainer = trainer(["a", "b", "c"], crops)
    model.setup("fit")
    labels = torch.tensor([0, 2, -1, 1, -1, 2])
    known = labels >= 0
    scores = model.classifier(model.backbone(crops.images).pooled)
    measured = model.compute_batch_losses((crops, labels))
    torch.testing.assert_close(measured["loss"], F.cross_entropy(scores[known], labels[known]))
    assert measured["accuracy"] == (scores.argmax(dim=1) == labels)[known].float().mean()
    none = model.compute_batch_losses((crops, torch.full((6,), -1)))
    assert none["loss"] == 0
    none["loss"].backward()
    assert model.classifier.weight.grad is not None


def test_a_uniform_classifier_costs_log_of_the_classes(vit, views):
    model, crops = Supervised(vit(), Mock), ResizeCropper(16)(views, 0)
    model._trainer = trainer(list("abcde"), crops)
    model.setup("fit")
    torch.nn.init.zeros_(model.classifier.weight)
    torch.nn.init.zeros_(model.classifier.bias)
    loss = model.compute_batch_losses((crops, torch.arange(6) % 5))["loss"]
    assert loss.item() == pytest.approx(math.log(5))


def test_no_labels_are_told_in_one_line(vit, views):
    model = Supervised(vit(), Mock)
    model._trainer = trainer(None, ResizeCropper(16)(views, 0))
    with pytest.raises(ConfigError, match=r"^method=supervised: [^\n]*try class folders$"):
        model.setup("fit")


def test_a_checkpoint_says_how_wide_the_classifier_is(vit, views):
    model = Supervised(vit(), Mock)
    model._trainer = trainer(list("abc"), ResizeCropper(16)(views, 0))
    model.setup("fit")
    other = Supervised(vit(), Mock)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.classifier.weight, model.classifier.weight)


def test_random_takes_no_step(vit, views):
    model, crops = Random(vit(), Mock), ResizeCropper(16)(views, 0)
    model._trainer = trainer(None, crops)
    model.setup("fit")
    assert model.trainer.fit_loop.epoch_loop.max_steps == 0
    assert model.compute_losses(crops)["loss"] == 0
