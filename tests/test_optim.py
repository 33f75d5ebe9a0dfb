"""Weight decay per parameter, and learning rates against values by hand."""

import re

import pytest
import torch
from torch import nn

from cim_lightning.errors import ConfigError
from cim_lightning.models.timm_backbone import TimmBackbone
from cim_lightning.optim import AdamWCosine, lr_factor

SMALL = {
    "vit_tiny_patch16_224": {"depth": 1, "embed_dim": 8, "num_heads": 2, "patch_size": 8, "img_size": 16},
    "convnext_tiny": {"depths": (1, 1, 1, 1), "dims": (4, 4, 8, 8)},
    "resnet18": {},
    "swin_tiny_patch4_window7_224": {"depths": (1, 1, 1, 1), "embed_dim": 8, "num_heads": (1, 1, 1, 1)},
}


def adamw(**changes) -> AdamWCosine:
    settings = {"base_lr": 1e-3, "weight_decay": 0.05, "betas": [0.9, 0.95], "warmup": 0.25}
    return AdamWCosine(**settings | changes)


def decay_of(module: nn.Module, **changes) -> dict[str, float]:
    """Return the weight decay by parameter name."""
    optimizer, _ = adamw(**changes)(module, 256, 8)
    names = {parameter: name for name, parameter in module.named_parameters()}
    decay = [(names[p], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]]
    assert len(dict(decay)) == len(decay)
    return dict(decay)


@pytest.mark.parametrize("name", SMALL)
def test_biases_norms_and_position_tables_have_no_weight_decay(name):
    backbone = TimmBackbone(name, SMALL[name], "timm", False, "timm")
    norms = [
        f"{path}.{leaf}"
        for path, module in backbone.named_modules()
        if "Norm" in type(module).__name__
        for leaf, _ in module.named_parameters(recurse=False)
    ]
    decay = decay_of(backbone)
    assert decay.keys() == dict(backbone.named_parameters()).keys()
    for parameter, value in decay.items():
        exempt = parameter.endswith((".bias", "pos_embed", "relative_position_bias_table", ".gamma"))
        assert value == (0 if exempt or parameter in norms else 0.05), parameter
    assert len(norms) > 2


def test_position_tables_of_every_family_are_exempt():
    for name, table in (
        ("vit_tiny_patch16_224", "pos_embed"),
        ("swin_tiny_patch4_window7_224", "bias_table"),
    ):
        backbone = TimmBackbone(name, SMALL[name], "timm", False, "timm")
        decay = decay_of(nn.ModuleDict({"backbone": backbone}))  # also with a prefix
        tables = [value for parameter, value in decay.items() if parameter.endswith(table)]
        assert tables
        assert not any(tables)


def test_only_trainable_parameters_are_optimized():
    backbone = TimmBackbone("vit_tiny_patch16_224", SMALL["vit_tiny_patch16_224"], "sincos", True, "xavier")
    frozen = {"model.pos_embed", "model.patch_embed.proj.weight", "model.patch_embed.proj.bias"}
    assert decay_of(backbone).keys() == dict(backbone.named_parameters()).keys() - frozen


def test_weight_decay_0():
    assert set(decay_of(nn.Linear(2, 3), weight_decay=0.0).values()) == {0}


@pytest.mark.parametrize(("images", "rate"), [(256, 1e-3), (64, 2.5e-4), (4096, 1.6e-2)])
def test_the_learning_rate_is_proportional_to_the_batch_size(images, rate):
    optimizer, _ = adamw(warmup=0.0)(nn.Linear(2, 3), images, 8)
    assert all(group["lr"] == pytest.approx(rate) for group in optimizer.param_groups)
    assert all(group["betas"] == (0.9, 0.95) for group in optimizer.param_groups)


def test_the_learning_rate_per_step():
    module = nn.Linear(2, 3)
    optimizer, schedule = adamw()(module, 512, 8)  # maximum 2e-3; 2 steps of warm-up, 6 of decay
    rates = []
    for _ in range(9):
        rates.append([group["lr"] for group in optimizer.param_groups])
        module(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        schedule.step()
    # half a cosine in sixths: (1 + cos 0, 30, 60, 90, 120, 150, 180 degrees) / 2
    decay = [1, 0.9330127, 0.75, 0.5, 0.25, 0.0669873, 0]
    expected = [2e-3 * factor for factor in [0, 0.5, *decay]]
    assert [rate for rate, _ in rates] == pytest.approx(expected, abs=1e-9)
    assert all(weights == biases for weights, biases in rates)


def test_the_weight_decay_per_step():
    module = nn.Linear(2, 3)
    optimizer, schedule = adamw(weight_decay=0.04, weight_decay_end=0.4)(module, 256, 4)
    decays = []
    for _ in range(5):
        decays.append([group["weight_decay"] for group in optimizer.param_groups])
        module(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        schedule.step()
    # (1 - cos 0, 45, 90, 135, 180 degrees) / 2 of the way from 0.04 to 0.4
    expected = [0.04 + 0.36 * done for done in (0, 0.1464466, 0.5, 0.8535534, 1)]
    assert [max(pair) for pair in decays] == pytest.approx(expected, abs=1e-7)
    assert [min(pair) for pair in decays] == [0] * 5  # biases


def test_the_weight_decay_is_constant_by_default():
    optimizer, schedule = adamw()(nn.Linear(2, 3), 256, 4)
    for _ in range(3):
        optimizer.step()
        schedule.step()
        assert {group["weight_decay"] for group in optimizer.param_groups} == {0, 0.05}


def test_a_restored_schedule_continues_with_the_present_length():
    """The state has plain values only, which torch.load(weights_only=True) requires."""
    first, second = (adamw(weight_decay_end=0.4, warmup=0.0)(nn.Linear(2, 3), 256, n) for n in (4, 8))
    for optimizer, schedule in (first, first):
        optimizer.step()
        schedule.step()
    state = first[1].state_dict()
    assert not [key for key, value in state.items() if callable(value)]
    optimizer, schedule = second
    schedule.load_state_dict(state)
    optimizer.step()
    schedule.step()
    straight, steps = adamw(weight_decay_end=0.4, warmup=0.0)(nn.Linear(2, 3), 256, 8)
    for _ in range(3):
        straight.step()
        steps.step()
    for ours, theirs in zip(optimizer.param_groups, straight.param_groups, strict=True):
        assert (ours["lr"], ours["weight_decay"]) == (theirs["lr"], theirs["weight_decay"])


@pytest.mark.parametrize(
    ("warmup", "total", "factors"),
    [
        (0.0, 4, [1, 0.8535534, 0.5, 0.1464466, 0]),
        (1.0, 4, [0, 0.25, 0.5, 0.75, 1]),
        (0.5, 4, [0, 0.5, 1, 0.5, 0, 0, 0]),  # stays at 0 past the end
        (0.3, 5, [0, 2 / 3]),  # one step and a half of warm-up
        (0.0, 1, [1, 0]),
    ],
)
def test_factors_of_the_learning_rate_by_hand(warmup, total, factors):
    result = [lr_factor(step, total, warmup) for step in range(len(factors))]
    assert result == pytest.approx(factors, abs=1e-7)


def test_linear_decay_by_hand():
    factors = [lr_factor(step, 8, 0.5, "linear") for step in range(10)]
    assert factors == pytest.approx([0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0, 0])


@pytest.mark.parametrize(
    ("mistake", "message", "suggestion"),
    [
        ({"warmup": 1.5}, "warmup=1.5", "1.0"),
        ({"warmup": -1.0}, "warmup=-1.0", "0.0"),
        ({"base_lr": 0.0}, "base_lr=0.0", "0.00015"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1", "0"),
        ({"weight_decay_end": -0.1}, "weight_decay_end=-0.1", "0"),
        ({"betas": [0.9]}, "betas=[0.9]", "[0.9, 0.95]"),
        ({"betas": [0.9, 1.0]}, "betas=[0.9, 1.0]", "[0.9, 0.95]"),
    ],
)
def test_a_mistake_gets_one_line_with_a_suggestion(mistake, message, suggestion):
    (name,) = mistake
    pattern = f"^{re.escape(message)}: [^\n]*; try {name}={re.escape(suggestion)}$"
    with pytest.raises(ConfigError, match=pattern) as error:
        adamw(**mistake)
    adamw(**{name: error.value.suggest})
