"""DINO's loss against a transcription and closed forms, its center, its schedules, and where gradients go."""

import functools
import math
import re
from unittest.mock import Mock

import pytest
import torch

from cim_lightning.cropping.exemplars import NEUTRAL
from cim_lightning.cropping.multi_crop import MultiCropper, MultiCrops, RandomCrops
from cim_lightning.errors import ConfigError
from cim_lightning.methods.dino import DINO
from cim_lightning.models.dino_head import DINOHead
from cim_lightning.models.target import EmaTarget, SeparateTarget, SharedTarget

LARGE = RandomCrops(1, 16, [0.25, 1.0], [0.75, 4 / 3], 0.5, NEUTRAL)
CROPPING = MultiCropper(LARGE, LARGE, RandomCrops(3, 8, [0.05, 0.25], [0.75, 4 / 3], 0.5, NEUTRAL))
SETTINGS = {
    "target": functools.partial(EmaTarget, momentum=0.9, tied=[]),
    "head": functools.partial(DINOHead, hidden=12, bottleneck=8, out=10),
    "optim": Mock,
    "temperature": 0.1,
    "target_temperature": [0.04, 0.07],
    "temperature_warmup": 0.5,
    "center_momentum": 0.9,
    "freeze_last_layer": 0.25,
    "weight_decay_end": 0.4,
}


def dino(backbone, **changes) -> DINO:
    return DINO(backbone, **SETTINGS | changes)


def softmax(values: list[float]) -> list[float]:
    whole = sum(math.exp(v - max(values)) for v in values)
    return [math.exp(v - max(values)) / whole for v in values]


def test_the_loss_is_the_mean_cross_entropy_over_pairs_of_different_crops(vit, views):
    model, crops = dino(vit()).eval(), CROPPING(views, 0)
    model.center.copy_(torch.linspace(-0.2, 0.2, 10))
    online = [crops.first, crops.second, *crops.small.unbind(dim=1)]
    said = [(model.head(model.backbone(crop).pooled) / 0.1).tolist() for crop in online]
    wanted = [
        ((model.head_target.network(model.target.network(crop).pooled) - model.center) / 0.04).tolist()
        for crop in online[:2]
    ]
    total = 0.0
    for i, targets in enumerate(wanted):
        for j, scores in enumerate(said):
            if i != j:
                for b in range(6):
                    p, q = softmax(targets[b]), softmax(scores[b])
                    total -= sum(a * math.log(c) for a, c in zip(p, q, strict=True))
    pairs = 2 * 4
    assert model.compute_losses(crops)["loss"].item() == pytest.approx(total / pairs / 6, rel=1e-4)


def test_uniform_outputs_cost_log_of_their_number(vit, views):
    model = dino(vit())
    for head in (model.head, model.head_target.network):
        head.prototypes.data.copy_(torch.ones(10, 8))  # all alike: no crop prefers one
    measured = model.compute_losses(CROPPING(views, 0))
    assert measured["loss"].item() == pytest.approx(math.log(10), rel=1e-5)
    assert measured["target_entropy"].item() == pytest.approx(math.log(10), rel=1e-5)
    assert measured["target_perplexity"].item() == pytest.approx(10, rel=1e-4)


def test_without_small_crops_it_compares_the_large_ones(vit, views):
    model, crops = dino(vit()).eval(), CROPPING(views, 0)
    alone = model.compute_losses(MultiCrops(crops.first, crops.second, None))["loss"]
    assert alone.isfinite()
    assert not torch.isclose(alone, model.compute_losses(crops)["loss"])


def test_the_center_is_a_running_mean_of_training_alone(vit, views):
    model, crops = dino(vit()), CROPPING(views, 0)
    both = torch.cat((crops.first, crops.second))
    mean = model.head_target.network(model.target.network(both).pooled).mean(dim=0)
    model.eval()
    model.compute_losses(crops)
    assert not model.center.any()
    model.train()
    model.compute_losses(crops)
    torch.testing.assert_close(model.center, 0.1 * mean)
    model.compute_losses(crops)
    torch.testing.assert_close(model.center, 0.9 * 0.1 * mean + 0.1 * mean)


def test_gradients_reach_the_online_side_alone(vit, views):
    model = dino(vit())
    model.compute_losses(CROPPING(views, 0))["loss"].backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert without == {name for name, p in model.named_parameters() if not p.requires_grad}
    assert all("target" in name or "pos_embed" in name for name in without)


def test_temperature_and_weight_decay_follow_training(vit, alone):
    model = dino(vit())
    optimizer = alone(model, weight_decay=0.04)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "weight_decay": 0.0})
    assert model.target_temp == pytest.approx(0.04)
    for progress, temperature, decay in (
        (0.25, 0.055, 0.04 + 0.36 * (1 - math.cos(math.pi / 4)) / 2),
        (0.5, 0.07, 0.22),
        (1.0, 0.07, 0.4),
    ):
        model.update_target(progress)
        assert model.target_temp.item() == pytest.approx(temperature)
        assert [group["weight_decay"] for group in optimizer.param_groups] == [pytest.approx(decay), 0]


def test_prototypes_hold_still_at_first(vit, views, alone):
    model = dino(vit())
    optimizer = alone(model, weight_decay=0.1)
    model.log = model.log_dict
    model.trainer.estimated_stepping_batches = 8
    for step, still in ((0, True), (1, True), (2, False)):
        before, others = model.head.prototypes.clone(), model.backbone.model.cls_token.clone()
        model.trainer.global_step = step
        optimizer.zero_grad()
        model.compute_losses(CROPPING(views, 0))["loss"].backward()
        model.on_before_optimizer_step(optimizer)
        optimizer.step()
        assert torch.equal(model.head.prototypes, before) == still
        assert not torch.equal(model.backbone.model.cls_token, others)


@pytest.mark.parametrize("target", [SharedTarget, SeparateTarget])
def test_whatever_the_target_no_gradient_reaches_it(target, vit, views):
    model = dino(vit(), target=target)
    scored = []
    model.head_target.register_forward_hook(lambda _, inputs, scores: scored.append(scores))
    model.compute_losses(CROPPING(views, 0))["loss"].backward()
    assert not scored[0].requires_grad
    assert model.eval_backbone is model.backbone


def test_what_comes_of_it_is_the_targets_backbone(vit):
    model = dino(vit())
    assert model.eval_backbone is model.target.network


@pytest.mark.parametrize(
    ("change", "told", "nearest"),
    [
        ({"temperature": 0.0}, "method.temperature=0.0", "0.1"),
        ({"target_temperature": [0.04]}, "method.target_temperature=[0.04]", "[0.04, 0.07]"),
        ({"target_temperature": [0.0, 0.1]}, "method.target_temperature=[0.0, 0.1]", "[0.04, 0.07]"),
        ({"center_momentum": 2.0}, "method.center_momentum=2.0", "1"),
        ({"freeze_last_layer": -1.0}, "method.freeze_last_layer=-1.0", "0"),
    ],
)
def test_a_mistake_gets_one_line(change, told, nearest, vit):
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}: [^\n]*try {re.escape(nearest)}$"):
        dino(vit(), **change)


def test_what_a_resumed_run_needs_lies_in_the_checkpoint(vit, alone):
    model = dino(vit())
    alone(model)
    model.update_target(0.5)
    model.center.fill_(0.25)
    other = dino(vit())
    other.load_state_dict(model.state_dict())
    assert other.progress == 0.5
    assert (other.center == 0.25).all()
