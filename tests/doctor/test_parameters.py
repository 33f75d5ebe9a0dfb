"""Groups of the optimizer, frozen parameters, and momenta of targets, by hand."""

import math
from types import SimpleNamespace

from torch import nn

from cim_lightning.doctor.parameters import group_findings, shorten, target_findings
from cim_lightning.models.target import EmaTarget
from cim_lightning.optim import AdamWCosine


def test_rows_of_the_groups_and_of_frozen_parameters():
    network = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3).requires_grad_(False))
    optimizer, _ = AdamWCosine(base_lr=1e-3, weight_decay=0.05)(network, 256, 10)
    rows = group_findings(network, optimizer)
    assert [row.name for row in rows] == ["group 0", "group 1", "frozen"]
    assert rows[0].value == "21 parameters in 3 tensors, lr 0.001, decay 0: 0.bias, 1.weight, 1.bias"
    assert rows[1].value == "35 parameters in 1 tensors, lr 0.001, decay 0.05: 0.weight"
    assert rows[2].value == "24 parameters: 2.weight, 2.bias"
    assert not any(row.problem for row in rows)


def test_a_trainable_parameter_that_no_group_has_is_a_problem():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    optimizer, _ = AdamWCosine()(network[0], 256, 10)
    problem = group_findings(network, optimizer)[-1]
    assert problem.name == "not optimized"
    assert problem.value == "2 tensors: 1.weight, 1.bias"
    assert problem.problem


def test_momenta_follow_the_cosine():
    online = nn.Linear(2, 2)
    target = EmaTarget(online, momentum=0.9)
    method = SimpleNamespace(
        target_pairs=lambda: [(target, online)], named_modules=nn.ModuleDict({"ema": target}).named_modules
    )
    first = 1 - 0.1 * (1 + math.cos(math.pi / 10)) / 2
    [row] = target_findings(method, 10)
    assert row.name == "momentum of ema"
    assert row.value == f"{first:.6g} after step 1, 0.95 in the middle, 1 at the end"


def test_long_lists_of_names_are_shortened():
    assert shorten(["a", "b"]) == "a, b"
    assert shorten(str(n) for n in range(5)) == "0, 1, 2, and 2 more"
