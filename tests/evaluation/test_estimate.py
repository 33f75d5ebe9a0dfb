"""The estimate of the time, with a backbone that takes a known time."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cim_lightning import free_memory as module
from cim_lightning.errors import BadImageError, ConfigError
from cim_lightning.evaluation import estimate, knn, linear, lowshot
from cim_lightning.evaluation.finetuning.classifier_training import ClassifierTraining
from cim_lightning.evaluation.knn import KNN
from cim_lightning.evaluation.linear import LinearProbe
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
    assert estimate.estimate_cost({"a": Passes(3000)}, slow).seconds == {"a": pytest.approx(15)}


def test_the_suite_logs_the_time_of_what_is_not_cached(slow, caplog):
    slow.backbone.state_dict = dict
    evaluate({"a": Passes(100)}, slow, {"a": 1}, {})
    caplog.clear()
    evaluators = {"a": Passes(100), "b": Passes(6000), "c": Passes(30000), "d": Passes(0)}
    with caplog.at_level(logging.INFO):
        evaluate(evaluators, slow, dict.fromkeys(evaluators, 1), {})
    assert caplog.messages[0] == "about 6 min: b 1 min, c 5 min"


def test_nothing_is_measured_without_a_forward_pass(slow):
    assert estimate.estimate_cost({"a": Passes(0)}, slow) == estimate.Cost({}, 0)
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


def labeled_images(train: int, val: int) -> SimpleNamespace:
    """Data with the given numbers of images, of three classes."""
    images = type("Images", (list,), {"classes": list("abc")})
    splits = SimpleNamespace(train=images(range(train)), val=images(range(val)))
    return SimpleNamespace(splits=splits, view=SimpleNamespace(size=8), batch_size=4)


PROBE = {"epochs": 10, "batch_size": 16, "weight_decay": 0.0, "val_fraction": 0.25, "num_train": None}


@pytest.fixture
def second(monkeypatch):
    """Let every short run take one second, and return the arguments of the runs."""
    runs = []

    def seconds_of(work, device):
        runs.append(work)
        return 1.0

    for owner in (knn, linear, lowshot):
        monkeypatch.setattr(owner, "seconds_of", seconds_of)
    return runs


def test_the_time_on_features_is_that_of_a_short_run_times_its_share(context, second, monkeypatch):
    given = context(data=labeled_images(96, 40))
    monkeypatch.setattr(knn, "SAMPLE", 48)
    monkeypatch.setattr(knn, "QUERY_CHUNK", 10)
    # Two kinds of features, twice the bank, four times the queries.
    search = KNN([1, 7], 0.07, None, 40)
    assert search.seconds_on_features(given) == 2 * 2 * 4
    given.world_size = 2
    assert search.seconds_on_features(given) == 2 * 2 * 4 / 2
    assert second[0].args[2] == 7
    # 96 images are 6 steps per epoch and 2 were run; 3/4 of them with all rates, all with the best one.
    probe = LinearProbe([0.1, 1.0], layers=2, num_val=None, **PROBE)
    assert probe.seconds_on_features(given) == pytest.approx(2 * 2 * 10 * (6 / 2) * (0.75 + 1))
    # Half of 96 labels, and 5 of each of 3 classes; each drawn 4 times; 100 steps, of which 3 were run.
    few = LowShot("mean", [0.5], [5], 4, 0.01, None, None)
    assert few.seconds_on_features(given) == pytest.approx((48 + 15) / 96 * 4 * 100 / 3)


def test_short_runs_have_the_shapes_of_the_data(context):
    given = context(data=labeled_images(50, 20))
    evaluators = [
        KNN([1, 99], 0.07, None, None),
        LinearProbe([0.1], layers=1, num_val=None, **PROBE),
        LowShot("pooled", [], [5], 1, 0.01, None, None),
    ]
    with torch.no_grad():  # as of a caller
        assert all(0 < evaluator.seconds_on_features(given) < 60 for evaluator in evaluators)


def test_features_of_several_evaluators_are_counted_once(slow, second):
    data = labeled_images(1000, 100)
    slow.data.splits, slow.backbone.dim = data.splits, 10
    evaluators = {
        "knn": KNN([1], 0.07, None, None),
        "probe": LinearProbe([0.1], layers=1, num_val=50, **PROBE),
    }
    cost = estimate.estimate_cost(evaluators, slow)
    on_features = {name: evaluator.seconds_on_features(slow) for name, evaluator in evaluators.items()}
    assert cost.seconds["knn"] == pytest.approx(0.01 * 1100 + on_features["knn"])
    assert cost.seconds["probe"] == pytest.approx(0.01 * 50 + on_features["probe"])
    # Two vectors of 10 numbers of 2 bytes, and a label of 8 bytes.
    assert cost.memory == (1000 + 100 + 50) * (2 * 10 * 2 + 8)


def test_decoding_that_takes_longer_than_the_backbone_decides(slow, monkeypatch):
    read = []

    class Images(list):
        def __getitem__(self, index):
            read.append(index)
            slow.backbone.time += 0.08
            if index == 12:
                raise BadImageError("x", "damaged")
            return np.zeros((9, 8, 3), np.uint8), 0

    slow.data.splits = SimpleNamespace(val=Images(range(16)))
    slow.data.loading = SimpleNamespace(num_workers=2)
    assert estimate.loading_seconds(slow) == pytest.approx(8 * 0.08 / 7 / 2)
    assert read == list(range(0, 16, 2))
    assert estimate.estimate_cost({"a": Passes(700)}, slow).seconds == {"a": pytest.approx(700 * 0.32 / 7)}


def test_features_that_do_not_fit_into_memory_are_refused(monkeypatch):
    cost = estimate.Cost({"knn": 100.0}, int(3e9))
    assert str(cost) == "about 2 min: knn 2 min; features: 3.0 GB of memory"
    monkeypatch.setattr(estimate, "free_memory", lambda: int(5e9))
    estimate.check_memory(cost.memory, 1)
    with pytest.raises(
        ConfigError, match=r"need 3.0 GB of memory in each of 2 processes, and 5.0 GB are free; try"
    ):
        estimate.check_memory(cost.memory, 2)
    monkeypatch.setattr(estimate, "free_memory", lambda: None)
    estimate.check_memory(cost.memory, 2)


def test_free_memory_is_that_of_the_machine_or_less_in_a_container(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(module, "CGROUPS", tmp_path)
    monkeypatch.setattr(module, "MEMBERSHIP", tmp_path / "membership")
    assert module.free_memory() is None
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:   70 kB\nSwapFree: 5 kB\n")
    assert module.free_memory() == 75 * 1024
    for name, text in {"max": "50000", "current": "20000", "stat": "anon 1\ninactive_file 4000\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert module.free_memory() == 34000
    (tmp_path / "membership").write_text("4:memory:/old\n0::/job/step\n")
    job = tmp_path / "job"
    job.mkdir()
    for name, text in {"max": "30000", "current": "20000", "stat": "inactive_file 500\n"}.items():
        (job / f"memory.{name}").write_text(text)
    assert module.free_memory() == 10500  # of the group around that of the process
    (job / "memory.max").write_text("max\n")
    assert module.free_memory() == 34000
    (tmp_path / "memory.max").write_text("max\n")
    assert module.free_memory() == 75 * 1024


def test_this_machine_has_free_memory():
    assert estimate.free_memory() is None or estimate.free_memory() > 1e6
