"""A validation that is interrupted by a signal."""

import signal
from unittest.mock import Mock

import lightning as L
import pytest

from cim_lightning.evaluation.fitting import validate
from cim_lightning.evaluation.trainer_factory import TrainerFactory


def test_a_validation_with_sigterm_ends_the_process_with_its_exit_code(context):
    trainer = Mock(spec=L.Trainer, received_sigterm=True)
    trainer.validate.return_value = [{"val/top1": 50.0}]
    given = context()
    given.trainer = TrainerFactory(lambda **_: trainer)
    with pytest.raises(SystemExit) as ended:
        validate(Mock(spec=L.LightningModule), Mock(spec=L.LightningDataModule), given)
    assert ended.value.code == 128 + signal.SIGTERM == 143
