"""How many steps a budget pays for, and that training and every schedule end there."""

import json
import re
from unittest.mock import Mock

import lightning as L
import pytest

from cim_lightning.callbacks import budget
from cim_lightning.callbacks.budget import Budget
from cim_lightning.errors import ConfigError
from cim_lightning.flops import Flops


def started(given: Budget, global_batch_size: int = 10) -> Mock:
    trainer, method = (
        Mock(spec=L.Trainer, fit_loop=Mock(), datamodule=None),
        Mock(global_batch_size=global_batch_size),
    )
    given.setup(trainer, method, "validate")
    assert not method.setup.called
    given.setup(trainer, method, "fit")
    method.setup.assert_called_once_with("fit")
    return trainer.fit_loop


@pytest.mark.parametrize(("images", "steps"), [(100, 10), (109, 10), (10, 1)])
def test_images_are_divided_into_steps(images, steps):
    loop = started(Budget(images=images))
    assert loop.epoch_loop.max_steps == steps
    assert loop.max_epochs == -1


def test_arithmetic_is_divided_by_what_an_image_costs(monkeypatch):
    monkeypatch.setattr(budget, "flops_per_image", lambda method, data: Flops(1e9, 3e9))
    assert started(Budget(petaflop=0.001)).epoch_loop.max_steps == 25  # 250 images


def test_a_method_that_costs_nothing_takes_no_step(monkeypatch):
    monkeypatch.setattr(budget, "flops_per_image", lambda method, data: Flops(0.0, 0.0))
    assert started(Budget(petaflop=1.0)).epoch_loop.max_steps == 0


@pytest.mark.parametrize(
    ("given", "told", "nearest"),
    [
        ({}, "budget.images=None, budget.petaflop=None", "budget=images"),
        ({"images": 1, "petaflop": 1.0}, "budget.images=1, budget.petaflop=1.0", "budget=images"),
        ({"images": -1}, "budget.images=-1", "no budget="),
        ({"images": 9}, "budget", "data.batch_size=9"),
    ],
)
def test_a_mistake_gets_one_line(given, told, nearest):
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}: [^\n]*try {re.escape(nearest)}$"):
        started(Budget(**given))


def test_a_run_ends_where_its_budget_does_and_its_rate_at_zero(run_pretrain, tiny, tmp_path):
    """56 images are 7 steps of 8: a whole epoch of 5, and 2 of the next."""
    run_pretrain(*tiny, "budget=images", "budget.images=56", f"output_dir={tmp_path / 'run'}")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["steps"], metrics["images_seen"]) == (7, 56)
    assert metrics["train/momentum"] == 1
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    rates = [float(line.split(",")[lines[0].split(",").index("train/lr")] or -1) for line in lines[1:]]
    assert 0 < [rate for rate in rates if rate >= 0][-1] < 0.35 * max(rates)
