"""Trainers of evaluations, and a validation without labels."""

from types import SimpleNamespace
from unittest.mock import Mock

import lightning as L
import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.attentive import AttentiveProbe
from cim_lightning.evaluation.finetuning.classifier_training import ClassifierTraining
from cim_lightning.evaluation.fitting import validate
from cim_lightning.evaluation.knn import KNN
from cim_lightning.evaluation.segmentation.segmentation import Segmentation
from cim_lightning.evaluation.trainer_factory import TrainerFactory, one_device, result_settings, uses_trainer


def test_a_validation_without_a_label_is_a_users_error(context):
    trainer = Mock(spec=L.Trainer, _signal_connector=Mock())
    trainer.validate.return_value = []  # Lightning's, without a batch
    given = context()
    given.trainer = TrainerFactory(lambda **_: trainer)
    with pytest.raises(ConfigError, match="no validation image has a label"):
        validate(Mock(spec=L.LightningModule), Mock(spec=L.LightningDataModule), given)


def test_a_trainer_of_validations_writes_nothing():
    trainer = one_device(torch.device("cpu")).for_validation()
    assert trainer.loggers == []
    assert trainer.checkpoint_callbacks == []


def test_evaluators_that_train_a_network_use_the_trainer():
    assert AttentiveProbe.uses_trainer
    assert Segmentation.uses_trainer
    classifier = object.__new__(ClassifierTraining)  # without settings
    assert uses_trainer(SimpleNamespace(classifier=classifier, num_val=None))
    assert not uses_trainer(KNN([1], 0.07, None, None))


def test_synchronized_batch_normalization_changes_the_weights():
    settings = {"accelerator": "cpu", "strategy": "ddp", "devices": 1, "logger": False}
    first, second = (L.Trainer(**settings, sync_batchnorm=sync) for sync in (False, True))
    assert result_settings(first) != result_settings(second)
