"""iBOT: loss against a transcription and closed forms, what the encoders see, centers and schedules."""

import functools
import math
import re
from unittest.mock import Mock

import pytest
import torch

from cim_lightning.cropping.masked_multi_crop import MaskedMultiCropper, MaskedMultiCrops
from cim_lightning.cropping.random_crop import RandomCrop
from cim_lightning.errors import ConfigError
from cim_lightning.methods.ibot import IBOT
from cim_lightning.models.heads import DINOHead
from cim_lightning.models.target import EmaTarget, SeparateTarget, SharedTarget
from cim_lightning.models.timm_backbone import TimmBackbone
from cim_lightning.schedule import Schedule

GLOBAL = RandomCrop(16, [0.25, 1.0], [0.75, 4 / 3], 0.5)
CROPPING = MaskedMultiCropper(GLOBAL, GLOBAL, RandomCrop(8, [0.05, 0.25], [0.75, 4 / 3], 0.5), 3, 4)
SETTINGS = {
    "target": functools.partial(EmaTarget, momentum=0.9),
    "head": functools.partial(DINOHead, hidden_dim=12, bottleneck_dim=8, out_dim=10),
    "optim": Mock,
    "target_temperature": Schedule(0.04, 0.07, "linear", share=0.5),
    "freeze_last_layer": 0.25,
}


def ibot(backbone, **changes) -> IBOT:
    return IBOT(backbone, **SETTINGS | changes)


def cross_entropy(target_scores: torch.Tensor, scores: torch.Tensor) -> float:
    """Cross-entropy of one vector of scores, which are divided by their temperatures."""
    p, q = (([math.exp(v - max(s)) for v in s]) for s in (target_scores.tolist(), scores.tolist()))
    return -sum(a / sum(p) * math.log(b / sum(q)) for a, b in zip(p, q, strict=True))


def test_the_loss_is_that_of_pairs_of_crops_and_of_masked_patches(vit, views):
    model, crops = ibot(vit()).eval(), CROPPING(views, 0)
    for parameter in model.target.network.parameters():
        parameter.data += 0.01  # the target differs from the online network
    model.center.copy_(torch.linspace(-0.2, 0.2, 10))
    model.patch_center.copy_(torch.linspace(0.3, -0.3, 10))
    normalize, target_head = model.backbone.normalize, model.head_target.network
    online, online_patches, target, target_patches = [], [], [], []
    for crop, mask in zip(crops.global_crops, crops.mask, strict=True):
        seen = model.target.network(normalize(crop))
        target.append((target_head(seen.pooled) - model.center) / 0.04)
        target_patches.append(
            (target_head(seen.grid.permute(0, 2, 3, 1).flatten(0, 2)) - model.patch_center) / 0.04
        )
        seen = model.masking(model.backbone, normalize(crop), mask)
        online.append(model.head(seen.pooled) / 0.1)
        online_patches.append(model.head(seen.grid.permute(0, 2, 3, 1).flatten(0, 2)) / 0.1)
    for crop in crops.local_crops.unbind(dim=1):
        online.append(model.head(model.backbone(normalize(crop)).pooled) / 0.1)
    pairs = [(i, j) for i in range(2) for j in range(5) if i != j]
    of_crops = sum(cross_entropy(target[i][b], online[j][b]) for i, j in pairs for b in range(6)) / 8 / 6
    of_patches = 0.0
    for i in range(2):
        for b in range(6):
            masked = [16 * b + cell for cell in range(16) if crops.mask[i, b].flatten()[cell]]
            errors = [cross_entropy(target_patches[i][n], online_patches[i][n]) for n in masked]
            of_patches += sum(errors) / max(len(errors), 1) / 12
    losses = model.compute_losses(crops)
    assert crops.num_masked > 6
    assert losses["class_loss"].item() == pytest.approx(of_crops, rel=1e-4)
    assert losses["patch_loss"].item() == pytest.approx(of_patches, rel=1e-4)
    assert losses["loss"].item() == pytest.approx(of_crops + of_patches, rel=1e-4)


def test_with_equal_prototypes_the_loss_is_the_log_of_their_number(vit, views):
    model, crops = ibot(vit()), CROPPING(views, 0)
    for head in (model.head, model.head_target.network):
        head.prototypes.data.copy_(torch.ones(10, 8))  # equal prototypes have equal scores
    metrics = model.compute_losses(crops)
    share = crops.mask.flatten(2).any(dim=2).float().mean().item()  # of the crops with a mask
    assert share == 0.5
    assert metrics["class_loss"].item() == pytest.approx(math.log(10), rel=1e-5)
    assert metrics["patch_loss"].item() == pytest.approx(share * math.log(10), rel=1e-5)
    assert metrics["target_entropy"].item() == pytest.approx(math.log(10), rel=1e-5)
    assert metrics["target_perplexity"].item() == pytest.approx(10, rel=1e-4)
    assert metrics["patch_perplexity"].item() == pytest.approx(10, rel=1e-4)
    assert {metric.name for metric in IBOT.metrics} == metrics.keys() - {"loss"}


def test_the_online_network_does_not_see_masked_patches_and_the_target_does(vit, views):
    model, crops = ibot(vit()).eval(), CROPPING(views, 0)
    online, target = [], []
    model.masking.register_forward_hook(lambda _, inputs, features: online.append(features.grid))
    model.target.register_forward_hook(lambda _, inputs, features: target.append(features.grid))
    masked = crops.mask.repeat_interleave(4, 2).repeat_interleave(4, 3)[:, :, None]
    noise = torch.rand_like(crops.global_crops)
    for images in (crops.global_crops, torch.where(masked, noise, crops.global_crops)):
        model.compute_losses(crops._replace(global_crops=images))
    assert torch.equal(online[0], online[1])
    assert not torch.allclose(target[0], target[1])
    assert not any("token" in name and "cls" not in name for name, _ in model.target.named_parameters())


def test_without_masks_and_local_crops_the_loss_compares_the_global_crops(vit, views):
    model, crops = ibot(vit()), CROPPING(views, 0)
    bare = MaskedMultiCrops(crops.global_crops, None, torch.zeros_like(crops.mask), 0)
    losses = model.compute_losses(bare)
    assert losses["patch_loss"] == 0
    assert losses["loss"] == losses["class_loss"]
    assert not model.patch_center.any()
    losses["loss"].backward()
    assert losses["loss"].isfinite()


def test_both_centers_are_running_means_of_training_batches(vit, views):
    model, crops = ibot(vit()).eval(), CROPPING(views, 0)
    features = model.target.network(model.backbone.normalize(crops.global_crops.flatten(0, 1)))
    head = model.head_target.network
    mean = head(features.pooled).mean(dim=0)
    patches = features.grid.permute(0, 2, 3, 1)[crops.mask.flatten(0, 1)]
    patch_mean = head(patches).mean(dim=0)
    model.compute_losses(crops)
    assert not model.center.any()
    assert not model.patch_center.any()
    model.train()
    for factor in (0.1, 0.1 + 0.9 * 0.1):
        model.compute_losses(crops)
        torch.testing.assert_close(model.center, factor * mean)
        torch.testing.assert_close(model.patch_center, factor * patch_mean)


def test_gradients_reach_the_online_networks_only(vit, views):
    model = ibot(vit())
    model.compute_losses(CROPPING(views, 0))["loss"].backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert without == {name for name, p in model.named_parameters() if not p.requires_grad}
    assert all("target" in name or "pos_embed" in name for name in without)


@pytest.mark.parametrize("target", [SharedTarget, SeparateTarget])
def test_no_gradient_reaches_a_shared_or_separate_target(target, vit, views):
    model, scores = ibot(vit(), target=target), []
    model.head_target.register_forward_hook(lambda _, inputs, output: scores.append(output))
    model.compute_losses(CROPPING(views, 0))["loss"].backward()
    assert len(scores) == 2
    assert not any(output.requires_grad for output in scores)
    assert model.eval_backbone is model.backbone


def test_two_devices_match_one(vit, assert_two_devices_match_one):
    """Both halves of the batch have the same number of masked patches."""
    crops = torch.rand(2, 8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(2, 8, 16, dtype=torch.bool)
    mask[:, ::2, 3:6] = True
    mask = mask.view(2, 8, 4, 4)

    def batch(images: slice) -> MaskedMultiCrops:
        part = mask[:, images]
        return MaskedMultiCrops(crops[:, images], None, part, int(part.sum()))

    assert_two_devices_match_one(lambda: ibot(vit()), batch)


def test_temperature_and_target_follow_their_schedules(vit, detach_from_trainer):
    model = ibot(vit())
    detach_from_trainer(model)
    assert model.eval_backbone is model.target.network
    assert model.target_temp == pytest.approx(0.04)
    before = model.target.network.model.cls_token.clone()
    model.backbone.model.cls_token.data += 1
    model.update_target(0.25)
    assert model.target_temp.item() == pytest.approx(0.055)
    momentum = 1 - 0.1 * (1 + math.cos(math.pi / 4)) / 2
    torch.testing.assert_close(model.target.network.model.cls_token, before + 1 - momentum)
    model.update_target(1.0)
    assert model.target_temp.item() == pytest.approx(0.07)


def test_prototypes_are_frozen_at_the_start_of_training(vit, views, detach_from_trainer):
    model = ibot(vit())
    optimizer = detach_from_trainer(model, weight_decay=0.1)
    model.trainer.estimated_stepping_batches = 8
    for step, frozen in ((0, True), (1, True), (2, False)):
        before = model.head.prototypes.clone()
        model.trainer.global_step = step
        optimizer.zero_grad()
        model.compute_losses(CROPPING(views, 0))["loss"].backward()
        model.on_before_optimizer_step(optimizer)
        optimizer.step()
        assert torch.equal(model.head.prototypes, before) == frozen


def test_the_loss_of_the_patches_falls_on_one_batch(vit, views):
    model, crops = ibot(vit()), CROPPING(views, 0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(40):
        metrics = model.compute_losses(crops)
        optimizer.zero_grad()
        metrics["loss"].backward()
        optimizer.step()
        losses.append(metrics["patch_loss"].item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[3:8])
    assert metrics["patch_perplexity"] > 2


def test_swin_and_resnet_take_a_step():
    swin = {"img_size": 64, "embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
    for backbone in (
        TimmBackbone("swin_tiny_patch4_window7_224", swin, "timm", False, "timm"),
        TimmBackbone("resnet18", {}, "timm", False, "timm"),
    ):
        side = 64
        large = RandomCrop(side, [0.25, 1.0], [0.75, 4 / 3], 0.5)
        cropping = MaskedMultiCropper(large, large, None, 0, backbone.patch_size)
        views = torch.randint(0, 256, (4, 3, side, side), dtype=torch.uint8)
        model = ibot(backbone)
        loss = model.compute_losses(cropping(views, 0))["loss"]
        loss.backward()
        assert loss.isfinite()
        assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_patches_of_another_size_are_an_error(vit, views):
    crops = MaskedMultiCropper(GLOBAL, GLOBAL, None, 0, 2)(views, 0)
    with pytest.raises(ConfigError, match=r"^mask_patch_size=2: must be 4[^\n]*; try mask_patch_size=4$"):
        ibot(vit()).compute_losses(crops)


@pytest.mark.parametrize(
    ("change", "message", "suggestion"),
    [
        ({"temperature": 0.0}, "temperature=0.0", "temperature=0.1"),
        ({"target_temperature": Schedule(0.0, 0.1)}, "start=0.0", "start=0.04"),
        ({"target_temperature": Schedule(0.1, 0.0)}, "end=0.0", "end=0.07"),
        ({"center_momentum": 2.0}, "center_momentum=2.0", "center_momentum=1.0"),
        ({"freeze_last_layer": -1.0}, "freeze_last_layer=-1.0", "freeze_last_layer=0.0"),
    ],
)
def test_a_mistake_gets_one_line_with_a_suggestion(change, message, suggestion, vit):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}: [^\n]*; try {re.escape(suggestion)}$"):
        ibot(vit(), **change)


def test_a_checkpoint_restores_centers_and_temperature(vit, detach_from_trainer):
    model = ibot(vit())
    detach_from_trainer(model)
    model.update_target(0.5)
    model.center.fill_(0.25)
    model.patch_center.fill_(0.5)
    restored = ibot(vit())
    restored.load_state_dict(model.state_dict())
    assert restored.target_temp == pytest.approx(0.07)
    assert (restored.center == 0.25).all()
    assert (restored.patch_center == 0.5).all()
