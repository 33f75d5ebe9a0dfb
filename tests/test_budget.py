"""Number of steps of a budget, and a run that ends after them with its schedule complete."""

import json
import re

import pytest

from cim_lightning.budget import Budget
from cim_lightning.errors import ConfigError


@pytest.mark.parametrize(("images", "steps"), [(100, 10), (109, 10), (10, 1)])
def test_images_are_divided_into_steps(images, steps):
    assert Budget(images=images).max_steps(flops_per_image=1.0, global_batch_size=10) == steps


def test_operations_are_divided_by_the_cost_of_an_image():
    assert Budget(petaflop=0.001).max_steps(flops_per_image=4e9, global_batch_size=10) == 25  # 250 images


def test_a_method_that_computes_nothing_takes_no_step():
    assert Budget(petaflop=1.0).max_steps(flops_per_image=0.0, global_batch_size=10) == 0


@pytest.mark.parametrize("settings", [{}, {"images": 1, "petaflop": 1.0}])
def test_exactly_one_budget_is_set(settings):
    with pytest.raises(ConfigError, match=r"^a budget needs either images or petaflop, and not both$"):
        Budget(**settings)


@pytest.mark.parametrize(
    ("settings", "message", "suggestion"),
    [
        ({"images": -1}, "images=-1", "images=1000000"),
        ({"petaflop": 0.0}, "petaflop=0.0", "petaflop=1"),
        ({"images": 9}, "images=9: must cover one step of 10 images", "images=10"),
        ({"petaflop": 1e-6}, "petaflop=1e-06: must cover one step of 10 images", "petaflop=4.04e-05"),
        ({"petaflop": 1e-9}, "petaflop=1e-09: must cover one step of 10 images", "petaflop=4.04e-05"),
    ],
)
def test_a_mistake_gets_one_line(settings, message, suggestion):
    with pytest.raises(
        ConfigError, match=f"^{re.escape(message)}[^\n]*; try {re.escape(suggestion)}$"
    ) as error:
        Budget(**settings).max_steps(flops_per_image=4e9, global_batch_size=10)
    works = Budget(**{error.value.parameter: error.value.suggest})
    assert works.max_steps(flops_per_image=4e9, global_batch_size=10) >= 1


def test_a_run_ends_with_its_budget_and_its_schedule(run_pretrain, tiny, tmp_path):
    """56 images are 7 steps of 8: a whole epoch of 5, and 2 of the next."""
    tiny.remove("trainer.max_epochs=2")
    run_pretrain(*tiny, "budget=images", "budget.images=56", f"output_dir={tmp_path / 'run'}")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["steps"], metrics["images_seen"]) == (7, 56)
    assert metrics["train/momentum"] == 1
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    rates = [float(line.split(",")[lines[0].split(",").index("train/lr")] or -1) for line in lines[1:]]
    assert 0 < [rate for rate in rates if rate >= 0][-1] < 0.35 * max(rates)
