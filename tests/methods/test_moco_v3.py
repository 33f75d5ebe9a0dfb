"""MoCo v3: loss against a transcription and a closed form, gradients and targets."""

import functools
import math
from unittest.mock import Mock

import pytest
import torch

from cim_lightning.cropping.multi_crop import MultiCropper
from cim_lightning.cropping.random_crop import RandomCrop
from cim_lightning.methods.moco_v3 import MoCoV3
from cim_lightning.models.heads import ContrastiveHead
from cim_lightning.models.target import EmaTarget, SeparateTarget, SharedTarget

CROP = RandomCrop(16, [0.2, 1.0], [0.75, 4 / 3], 0.5)
CROPPING = MultiCropper(CROP, CROP, None, 0)
HEAD = functools.partial(ContrastiveHead, hidden_dim=12, out_dim=8, temperature=0.2, weight=1.0)
TARGET = functools.partial(EmaTarget, momentum=0.9, tied=[])


def moco(backbone) -> MoCoV3:
    return MoCoV3(backbone, TARGET, HEAD, Mock)


def test_the_loss_is_symmetric_info_nce_between_the_networks(vit, views, normalize):
    model, crops = moco(vit()), CROPPING(views, 0)
    total = 0.0
    images = normalize(crops.global_crops)
    for query_view, key_view in (images, images.flip(0)):
        queries = model.head.predictor(model.head.projector(model.backbone(query_view).pooled))
        keys = model.head_target.network(model.target.network(key_view).pooled)
        for i in range(6):
            cosines = [torch.cosine_similarity(queries[i], key, dim=0).item() / 0.2 for key in keys]
            total += math.log(sum(math.exp(c) for c in cosines)) - cosines[i]
    assert model.compute_losses(crops)["loss"].item() == pytest.approx(2 * 0.2 * total / 6, rel=1e-4)


def test_the_loss_of_identical_images_is_the_loss_of_a_uniform_guess(vit):
    """Equal images have equal keys: log n for each of two crops, times twice the temperature."""
    view = torch.full((6, 3, 20, 20), 100, dtype=torch.uint8)
    assert moco(vit()).eval().compute_losses(CROPPING(view, 0))["loss"].item() == pytest.approx(
        2 * 2 * 0.2 * math.log(6), rel=1e-3
    )


def test_gradients_reach_the_online_networks_only(vit, views):
    model = moco(vit(freeze=True))
    model.compute_losses(CROPPING(views, 0))["loss"].backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert without == frozen
    assert {"backbone.model.patch_embed.proj.weight", "target.network.model.norm.weight"} < frozen
    assert all("target" in name or "patch_embed" in name or "pos_embed" in name for name in frozen)


@pytest.mark.parametrize("target", [SharedTarget, SeparateTarget])
def test_no_gradient_reaches_a_shared_or_separate_target(target, vit, views):
    model = MoCoV3(vit(), target, HEAD, Mock)
    keys = []
    model.head_target.register_forward_hook(lambda _, inputs, projected: keys.append(projected))
    model.compute_losses(CROPPING(views, 0))["loss"].backward()
    assert len(keys) == 2
    assert not any(key.requires_grad for key in keys)


def test_both_targets_are_updated_after_a_step(vit, detach_from_trainer):
    model = moco(vit())
    detach_from_trainer(model)
    for online, target in ((model.backbone, model.target), (model.head.projector, model.head_target)):
        with torch.no_grad():
            for parameter in online.parameters():
                parameter.add_(1)
        before = [p.clone() for p in target.network.parameters()]
        model.update_target(0.5)
        momentum = 1 - 0.1 * (1 + math.cos(math.pi / 2)) / 2
        for old, new, followed in zip(before, target.network.parameters(), online.parameters(), strict=True):
            torch.testing.assert_close(new, momentum * old + (1 - momentum) * followed)


def test_the_loss_falls_on_one_batch(vit, views, detach_from_trainer):
    model, crops = moco(vit()), CROPPING(views, 0)
    optimizer = detach_from_trainer(model, lr=0.5)
    losses = []
    for step in range(40):
        loss = model.compute_losses(crops)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.update_target((step + 1) / 40)
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
