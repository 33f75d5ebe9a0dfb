"""The registry of metrics: it names everything that runs log, and every table and plot reads it."""

import csv
import json
from pathlib import Path

import pytest

from cim_lightning import metric_registry
from cim_lightning.methods import cim, dino, supervised
from cim_lightning.metric_registry import (
    BAR,
    COLUMN,
    METRICS,
    PLOT,
    TABLE,
    Metric,
    before_after,
    by_section,
    declared,
    find,
    register,
    shown_in,
)

COMMON = METRICS.keys() - {
    m.name for method in (cim.CIM, dino.DINO, supervised.Supervised) for m in method.metrics
}
METHODS = {file.stem for file in (Path(__file__).parents[1] / "conf" / "method").glob("*.yaml")}
NOT_METRICS = {"step", "epoch"}  # columns that Lightning adds


@pytest.mark.parametrize("method", sorted(METHODS - {"random"}))
def test_every_metric_that_a_run_logs_is_registered(method, run_pretrain, tiny, method_overrides, tmp_path):
    of_other_methods = ("cropping=", "decoder.")
    common = [argument for argument in tiny if not argument.startswith(of_other_methods)]
    run_pretrain(
        f"method={method}", *common, *method_overrides[method], "trainer.max_steps=1", "output_dir=run"
    )
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        columns = set(next(csv.reader(file))) - NOT_METRICS
    names = {column.removeprefix("train/").removeprefix("val/") for column in columns}
    baselines = {metric.baseline for metric in METRICS.values()}
    assert {"loss", "lr", "knn"} <= names
    assert names <= METRICS.keys() | baselines
    # A report knows them without the code of the method.
    recorded = {
        metric["name"] for metric in json.loads((tmp_path / "run" / "run.json").read_text())["metrics"]
    }
    assert names <= COMMON | recorded | baselines


@pytest.mark.parametrize("name", ["target_entropy", "target_perplexity"])
def test_metrics_of_dino_are_shown_everywhere(name):
    for place in (BAR, TABLE, PLOT, COLUMN):
        assert METRICS[name] in shown_in(place)
    assert METRICS[name] in by_section()[metric_registry.PRETEXT]


def test_names_titles_and_labels_are_unique():
    for values in ([m.name for m in METRICS.values()], [m.title for m in METRICS.values()]):
        assert len(set(values)) == len(values)


def test_places_are_sorted_by_section():
    labels = [m.label for m in shown_in(BAR)]
    assert labels[0] == "loss"
    assert labels[-2:] == ["img/s", "wait"]
    assert {"skill", "target entropy", "target perplexity"} <= {*labels[1:-2]}


def test_curves_of_a_dashboard_include_the_logged_baseline():
    assert METRICS["loss"].curves == ("train/loss", "val/loss")
    assert METRICS["skill"].curves == ("val/skill",)
    assert METRICS["iou"].curves == ("val/iou", "val/iou_baseline")
    assert METRICS["data_wait"].curves == ("train/data_wait",)
    assert [*by_section()] == ["Pretext task", "Features", "Speed"]


def test_before_after_pairs_validations_with_the_baseline():
    numbers = {
        "val/mine": 3.0,
        "initial/skill": -1.0,
        "val/skill": 0.5,
        "val/iou": 0.4,
        "val/iou_baseline": 0.3,
    }
    numbers |= {"val/best_iou_baseline": 0.9, "initial/knn": 0.1, "train/loss": 2.0}
    assert list(before_after(numbers)) == [
        (METRICS["skill"], -1.0, 0.5, 0.0),
        (METRICS["iou"], None, 0.4, 0.3),
        (Metric("mine", "mine"), None, 3.0, None),
    ]
    mine = Metric("mine", "my metric", baseline=2.0)
    assert next(before_after(numbers, [mine])) == (mine, None, 3.0, 2.0)


def test_a_metric_is_registered_once(monkeypatch):
    monkeypatch.setattr(metric_registry, "METRICS", dict(METRICS))
    mine = Metric("mine", "my metric")
    register(mine)
    register(Metric("mine", "my metric"))
    assert [metric for metric in declared() if metric.name == "mine"] == [mine]
    assert METRICS["loss"] not in declared()
    with pytest.raises(ValueError, match="mine is registered already"):
        register(Metric("mine", "another metric"))


def test_a_metric_survives_json():
    for metric in (Metric("a", "A"), METRICS["loss"], METRICS["iou"], METRICS["knn"], METRICS["skill"]):
        assert Metric.from_dict(json.loads(json.dumps(metric.to_dict()))) == metric
    assert Metric("a", "A").to_dict() == {"name": "a", "title": "A"}
    assert Metric.from_dict({"name": "a", "title": "A", "of_a_later_version": 1}) == Metric("a", "A")


def test_a_pattern_names_the_metric_that_it_matches():
    metrics = (
        Metric("mean", "mean features"),
        Metric("mean_k*", "k-NN, k = *", short="* NN", unit="%"),
        Metric("*_at_*", "* at radius *"),
    )
    assert find("mean", metrics) == metrics[0]
    assert find("mean_k20", metrics) == Metric("mean_k20", "k-NN, k = 20", short="20 NN", unit="%")
    assert find("top_1_at_0.5", metrics).title == "top 1 at radius 0.5"
    assert find("meanXk20", metrics) == Metric("meanXk20", "meanXk20")  # unknown
    assert find("my_number", ()).title == "my number"


def test_values_are_printed_with_digits_and_unit():
    assert Metric("a", "A", digits=1, unit="%").text(44.449) == "44.4 %"
    assert Metric("a", "A").text(12345.6789) == "12,345.679"
    assert Metric("a", "A", unit="s").with_unit("time") == "time, s"
    assert Metric("a", "A").with_unit("time") == "time"
