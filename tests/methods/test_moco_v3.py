"""MoCo v3's loss against a transcription and a closed form, and where its gradients go."""

import functools
import math
from unittest.mock import Mock

import pytest
import torch

from cim_lightning.cropping.exemplars import NEUTRAL
from cim_lightning.cropping.multi_crop import MultiCropper, RandomCrops
from cim_lightning.methods.moco_v3 import MoCoV3
from cim_lightning.models.contrastive_head import ContrastiveHead
from cim_lightning.models.target import EmaTarget, SeparateTarget, SharedTarget

CROPS = RandomCrops(1, 16, [0.2, 1.0], [0.75, 4 / 3], 0.5, NEUTRAL)
CROPPING = MultiCropper(CROPS, CROPS)
HEAD = functools.partial(ContrastiveHead, hidden=12, out=8, temperature=0.2, weight=1.0)
TARGET = functools.partial(EmaTarget, momentum=0.9, tied=[])


def moco(backbone) -> MoCoV3:
    return MoCoV3(backbone, TARGET, HEAD, Mock)


def test_the_loss_is_symmetric_info_nce_between_the_networks(vit, views):
    model, crops = moco(vit()), CROPPING(views, 0)
    total = 0.0
    for mine, theirs in ((crops.first, crops.second), (crops.second, crops.first)):
        queries = model.head.predictor(model.head.projector(model.backbone(mine).pooled))
        keys = model.head_target.network(model.target.network(theirs).pooled)
        for i in range(6):
            cosines = [torch.cosine_similarity(queries[i], key, dim=0).item() / 0.2 for key in keys]
            total += math.log(sum(math.exp(c) for c in cosines)) - cosines[i]
    assert model.compute_losses(crops)["loss"].item() == pytest.approx(2 * 0.2 * total / 6, rel=1e-4)


def test_identical_rows_leave_a_guess_among_them(vit):
    """Every image and so every key is the same: log n in each direction, times twice the temperature."""
    view = torch.full((6, 3, 20, 20), 100, dtype=torch.uint8)
    assert moco(vit()).eval().compute_losses(CROPPING(view, 0))["loss"].item() == pytest.approx(
        2 * 2 * 0.2 * math.log(6), rel=1e-3
    )


def test_gradients_reach_the_online_side_alone(vit, views):
    model = moco(vit(freeze=True))
    model.compute_losses(CROPPING(views, 0))["loss"].backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert without == frozen
    assert {"backbone.model.patch_embed.proj.weight", "target.network.model.norm.weight"} < frozen
    assert all("target" in name or "patch_embed" in name or "pos_embed" in name for name in frozen)


@pytest.mark.parametrize("target", [SharedTarget, SeparateTarget])
def test_whatever_the_target_no_gradient_reaches_it(target, vit, views):
    model = MoCoV3(vit(), target, HEAD, Mock)
    keys = []
    model.head_target.register_forward_hook(lambda _, inputs, projected: keys.append(projected))
    model.compute_losses(CROPPING(views, 0))["loss"].backward()
    assert len(keys) == 2
    assert not any(one.requires_grad for one in keys)


def test_both_targets_follow_after_a_step(vit, alone):
    model = moco(vit())
    alone(model)
    for mine, theirs in ((model.backbone, model.target), (model.head.projector, model.head_target)):
        with torch.no_grad():
            for parameter in mine.parameters():
                parameter.add_(1)
        before = [p.clone() for p in theirs.network.parameters()]
        model.update_target(0.5)
        momentum = 1 - 0.1 * (1 + math.cos(math.pi / 2)) / 2
        for old, new, online in zip(before, theirs.network.parameters(), mine.parameters(), strict=True):
            torch.testing.assert_close(new, momentum * old + (1 - momentum) * online)


def test_it_tells_images_apart_after_some_steps(vit, views, alone):
    model, crops = moco(vit()), CROPPING(views, 0)
    optimizer = alone(model, lr=0.5)
    losses = []
    for step in range(40):
        loss = model.compute_losses(crops)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.update_target((step + 1) / 40)
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
