"""The registry of metrics: it names everything that runs log, and every table and plot reads it."""

import csv

import pytest

from cim_lightning import metric_registry
from cim_lightning.metric_registry import (
    BAR,
    METRICS,
    PLOT,
    TABLE,
    Metric,
    before_after,
    by_section,
    shown_in,
)

METHODS = ["cim", "mae", "simmim", "moco_v3", "dino", "supervised"]
NOT_METRICS = {"step", "epoch"}  # columns that Lightning adds


@pytest.mark.parametrize("method", METHODS)
def test_every_metric_that_a_run_logs_is_registered(method, run_pretrain, tiny, method_overrides, tmp_path):
    of_other_methods = ("cropping=", "decoder.")
    common = [argument for argument in tiny if not argument.startswith(of_other_methods)]
    run_pretrain(
        f"method={method}", *common, *method_overrides[method], "trainer.max_steps=1", "output_dir=run"
    )
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        columns = set(next(csv.reader(file))) - NOT_METRICS
    names = {column.removeprefix("train/").removeprefix("val/") for column in columns}
    assert {"loss", "lr", "knn"} <= names
    assert names <= METRICS.keys()


def test_the_contrastive_loss_is_registered():
    assert "contrast" in METRICS  # logged only with method.contrast


@pytest.mark.parametrize("name", ["target_entropy", "target_perplexity"])
def test_metrics_of_dino_are_shown_everywhere(name):
    for place in (BAR, TABLE, PLOT):
        assert METRICS[name] in shown_in(place)
    assert METRICS[name] in by_section()[metric_registry.PRETEXT]


def test_names_titles_and_labels_are_unique():
    for values in ([m.name for m in METRICS.values()], [m.title for m in METRICS.values()]):
        assert len(set(values)) == len(values)
    assert [m.label for m in shown_in(BAR)] == [
        "loss",
        "skill",
        "target entropy",
        "target perplexity",
        "img/s",
        "wait",
    ]


def test_curves_of_a_dashboard_include_the_logged_baseline():
    assert METRICS["loss"].curves == ("train/loss", "val/loss")
    assert METRICS["skill"].curves == ("val/skill",)
    assert METRICS["iou"].curves == ("val/iou", "val/iou_constant")
    assert METRICS["data_wait"].curves == ("train/data_wait",)
    assert [*by_section()] == ["Pretext task", "Features", "Speed"]


def test_before_after_pairs_validations_with_the_baseline():
    numbers = {
        "val/mine": 3.0,
        "initial/skill": -1.0,
        "val/skill": 0.5,
        "val/iou": 0.4,
        "val/iou_constant": 0.3,
    }
    numbers |= {"val/best_iou_constant": 0.9, "initial/knn": 0.1, "train/loss": 2.0}
    assert list(before_after(numbers)) == [
        (METRICS["skill"], -1.0, 0.5, 0.0),
        (METRICS["iou"], None, 0.4, 0.3),
        (Metric("mine", "mine"), None, 3.0, None),
    ]
