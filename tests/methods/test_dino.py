"""DINO: loss against a transcription and closed forms, center, schedules and gradients."""

import functools
import math
import re
from unittest.mock import Mock

import pytest
import torch

from cim_lightning.cropping.multi_crop import MultiCropper
from cim_lightning.cropping.random_crop import RandomCrop
from cim_lightning.errors import ConfigError
from cim_lightning.methods.dino import DINO
from cim_lightning.models.heads import DINOHead
from cim_lightning.models.target import EmaTarget, SeparateTarget, SharedTarget
from cim_lightning.schedule import Schedule

GLOBAL = RandomCrop(16, [0.25, 1.0], [0.75, 4 / 3], 0.5)
CROPPING = MultiCropper(GLOBAL, GLOBAL, RandomCrop(8, [0.05, 0.25], [0.75, 4 / 3], 0.5), 3)
SETTINGS = {
    "target": functools.partial(EmaTarget, momentum=0.9, tied=[]),
    "head": functools.partial(DINOHead, hidden_dim=12, bottleneck_dim=8, out_dim=10),
    "optim": Mock,
    "temperature": 0.1,
    "target_temperature": Schedule(0.04, 0.07, "linear", share=0.5),
    "center_momentum": 0.9,
    "freeze_last_layer": 0.25,
}


def dino(backbone, **changes) -> DINO:
    return DINO(backbone, **SETTINGS | changes)


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(v - max(values)) for v in values)
    return [math.exp(v - max(values)) / total for v in values]


def test_the_loss_is_the_mean_cross_entropy_over_pairs_of_different_crops(vit, views, normalize):
    model, crops = dino(vit()).eval(), CROPPING(views, 0)
    model.center.copy_(torch.linspace(-0.2, 0.2, 10))
    all_crops = [*normalize(crops.global_crops), *normalize(crops.local_crops).unbind(dim=1)]
    online = [(model.head(model.backbone(crop).pooled) / 0.1).tolist() for crop in all_crops]
    target = [
        ((model.head_target.network(model.target.network(crop).pooled) - model.center) / 0.04).tolist()
        for crop in all_crops[:2]
    ]
    total = 0.0
    for i, targets in enumerate(target):
        for j, scores in enumerate(online):
            if i != j:
                for b in range(6):
                    p, q = softmax(targets[b]), softmax(scores[b])
                    total -= sum(a * math.log(c) for a, c in zip(p, q, strict=True))
    pairs = 2 * 4
    assert model.compute_losses(crops)["loss"].item() == pytest.approx(total / pairs / 6, rel=1e-4)


def test_with_equal_prototypes_the_loss_is_the_log_of_their_number(vit, views):
    model = dino(vit())
    for head in (model.head, model.head_target.network):
        head.prototypes.data.copy_(torch.ones(10, 8))  # equal prototypes have equal scores
    metrics = model.compute_losses(CROPPING(views, 0))
    assert metrics["loss"].item() == pytest.approx(math.log(10), rel=1e-5)
    assert metrics["target_entropy"].item() == pytest.approx(math.log(10), rel=1e-5)
    assert metrics["target_perplexity"].item() == pytest.approx(10, rel=1e-4)


def test_without_local_crops_the_loss_compares_the_global_crops(vit, views):
    model, crops = dino(vit()).eval(), CROPPING(views, 0)
    loss = model.compute_losses(crops._replace(local_crops=None))["loss"]
    assert loss.isfinite()
    assert not torch.isclose(loss, model.compute_losses(crops)["loss"])


def test_the_center_is_a_running_mean_of_training_batches(vit, views, normalize):
    model, crops = dino(vit()), CROPPING(views, 0)
    features = model.target.network(normalize(crops.global_crops).flatten(0, 1)).pooled
    mean = model.head_target.network(features).mean(dim=0)
    model.eval()
    model.compute_losses(crops)
    assert not model.center.any()
    model.train()
    model.compute_losses(crops)
    torch.testing.assert_close(model.center, 0.1 * mean)
    model.compute_losses(crops)
    torch.testing.assert_close(model.center, 0.9 * 0.1 * mean + 0.1 * mean)


def test_gradients_reach_the_online_networks_only(vit, views):
    model = dino(vit())
    model.compute_losses(CROPPING(views, 0))["loss"].backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert without == {name for name, p in model.named_parameters() if not p.requires_grad}
    assert all("target" in name or "pos_embed" in name for name in without)


def test_the_temperature_of_the_target_follows_its_schedule(vit, detach_from_trainer):
    model = dino(vit())
    detach_from_trainer(model)
    assert model.target_temp.item() == pytest.approx(0.04)
    for progress, temperature in ((0.25, 0.055), (0.5, 0.07), (1.0, 0.07)):
        model.update_target(progress)
        assert model.target_temp.item() == pytest.approx(temperature)


def test_prototypes_are_frozen_at_the_start_of_training(vit, views, detach_from_trainer):
    model = dino(vit())
    optimizer = detach_from_trainer(model, weight_decay=0.1)
    model.trainer.estimated_stepping_batches = 8
    for step, frozen in ((0, True), (1, True), (2, False)):
        before, cls_token = model.head.prototypes.clone(), model.backbone.model.cls_token.clone()
        model.trainer.global_step = step
        optimizer.zero_grad()
        model.compute_losses(CROPPING(views, 0))["loss"].backward()
        model.on_before_optimizer_step(optimizer)
        optimizer.step()
        assert torch.equal(model.head.prototypes, before) == frozen
        assert not torch.equal(model.backbone.model.cls_token, cls_token)


@pytest.mark.parametrize("target", [SharedTarget, SeparateTarget])
def test_no_gradient_reaches_a_shared_or_separate_target(target, vit, views):
    model = dino(vit(), target=target)
    outputs = []
    model.head_target.register_forward_hook(lambda _, inputs, scores: outputs.append(scores))
    model.compute_losses(CROPPING(views, 0))["loss"].backward()
    assert not outputs[0].requires_grad
    assert model.eval_backbone is model.backbone


def test_the_backbone_of_the_target_is_evaluated(vit):
    model = dino(vit())
    assert model.eval_backbone is model.target.network


@pytest.mark.parametrize(
    ("change", "message", "suggestion"),
    [
        ({"temperature": 0.0}, "temperature=0.0", "0.1"),
        ({"center_momentum": 2.0}, "center_momentum=2.0", "1.0"),
        ({"freeze_last_layer": -1.0}, "freeze_last_layer=-1.0", "0.0"),
    ],
)
def test_a_mistake_gets_one_line_with_a_suggestion(change, message, suggestion, vit):
    (name,) = change
    pattern = f"^{re.escape(message)}: [^\n]*; try {name}={re.escape(suggestion)}$"
    with pytest.raises(ConfigError, match=pattern):
        dino(vit(), **change)


@pytest.mark.parametrize(("schedule", "message"), [((0.0, 0.1), "start=0.0"), ((0.1, -1.0), "end=-1.0")])
def test_temperatures_of_the_target_are_above_0(schedule, message, vit):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}: must be above 0; try "):
        dino(vit(), target_temperature=Schedule(*schedule))


def test_a_checkpoint_restores_center_and_temperature(vit, detach_from_trainer):
    model = dino(vit())
    detach_from_trainer(model)
    model.update_target(0.5)
    model.center.fill_(0.25)
    restored = dino(vit())
    restored.load_state_dict(model.state_dict())
    assert restored.target_temp.item() == pytest.approx(0.07)
    assert (restored.center == 0.25).all()
