"""The estimate of the time, with a backbone that takes a known time."""

import logging
from types import SimpleNamespace

import pytest
import torch

from cim_lightning.evaluation import estimate
from cim_lightning.evaluation.finetuning.classifier_training import ClassifierTraining
from cim_lightning.evaluation.knn import KNN
from cim_lightning.evaluation.logistic import LogisticRegression
from cim_lightning.evaluation.lowshot import LowShot
from cim_lightning.evaluation.robustness.accuracy import fit_passes
from cim_lightning.evaluation.suite import evaluate


class SlowBackbone:
    """A backbone whose pass takes one second plus a tenth of a second per image, on a clock that it moves."""

    in_channels = 3

    def __init__(self):
        self.time, self.sizes = 0.0, []

    def normalize(self, images):
        return images

    def __call__(self, images):
        self.time += (1 if len(self.sizes) == 0 else 0) + 0.01 * len(images)  # the first pass loads kernels
        self.sizes.append(tuple(images.shape))
        return SimpleNamespace(pooled=torch.zeros(1))


class Passes:
    """An evaluator with a given number of forward passes."""

    metrics = ()

    def __init__(self, passes: float):
        self.passes = passes

    def applies(self, context):
        return None

    def forward_passes(self, context):
        return self.passes

    def __call__(self, context):
        return {"done": 1.0}


@pytest.fixture
def slow(context, monkeypatch):
    context = context(data=SimpleNamespace(batch_size=100, view=SimpleNamespace(size=8)))
    context.backbone = SlowBackbone()
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: context.backbone.time)
    return context


def test_the_batch_grows_until_its_time_can_be_extrapolated(slow):
    assert estimate.seconds_per_image(slow) == pytest.approx(0.01)
    assert [size[0] for size in slow.backbone.sizes] == [1, 1, 4, 4, 16, 16, 64, 64]
    assert slow.backbone.sizes[0] == (1, 3, 8, 8)


def test_the_measured_batch_is_at_most_that_of_the_data(slow):
    slow.data.batch_size = 10
    estimate.seconds_per_image(slow)
    assert [size[0] for size in slow.backbone.sizes][::2] == [1, 4, 10]


def test_processes_share_the_images(slow):
    slow.world_size = 2
    assert estimate.estimate_seconds({"a": Passes(3000)}, slow) == {"a": pytest.approx(15)}


def test_the_suite_logs_the_time_of_what_is_not_cached(slow, caplog):
    slow.backbone.state_dict = dict
    evaluate({"a": Passes(100)}, slow, {"a": 1}, {})
    caplog.clear()
    evaluators = {"a": Passes(100), "b": Passes(6000), "c": Passes(30000), "d": Passes(0)}
    with caplog.at_level(logging.INFO):
        evaluate(evaluators, slow, dict.fromkeys(evaluators, 1), {})
    assert caplog.messages[0] == "about 6 min: b 1 min, c 5 min"


def test_nothing_is_measured_without_a_forward_pass(slow):
    assert estimate.estimate_seconds({"a": Passes(0)}, slow) == {}
    assert slow.backbone.sizes == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.1, "1 s"), (44, "44 s"), (50, "1 min"), (5000, "83 min"), (5400, "1.5 h")]
)
def test_times_are_rounded(seconds, text):
    assert estimate.format_time(seconds) == text


def test_forward_passes_of_evaluators_of_frozen_features(context):
    given = context(data=SimpleNamespace(splits=SimpleNamespace(train=range(10), val=range(4))))
    assert KNN([1], 0.07, num_train=7, num_val=None).forward_passes(given) == 7 + 4
    assert LowShot("mean", [0.5], [1], 1, 0.0, num_train=None, num_val=3).forward_passes(given) == 10 + 3


def test_the_training_of_a_classifier_is_part_of_the_estimate(context):
    given = context(data=SimpleNamespace(splits=SimpleNamespace(train=range(10), val=range(4))))
    assert fit_passes(LogisticRegression("mean", 7, 0.0, 1), given) == 7
    training = object.__new__(ClassifierTraining)
    training.num_train, training.epochs, training.finetune = 8, 5, True
    assert fit_passes(training, given) == 8 * 5 * 3
    training.finetune = False
    assert fit_passes(training, given) == 8 * 5
