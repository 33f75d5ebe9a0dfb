"""I-JEPA: loss against a transcription and closed forms, what the encoders see, and gradients."""

import functools
import math
from unittest.mock import Mock

import pytest
import torch

from cim_lightning.cropping.multi_block import BlockMaskedImages, MultiBlockCropper
from cim_lightning.errors import ConfigError
from cim_lightning.methods.ijepa import IJEPA
from cim_lightning.models.block_predictor import BlockPredictor
from cim_lightning.models.module_backbone import ModuleBackbone
from cim_lightning.models.target import EmaTarget, SeparateTarget, SharedTarget

CROPPING = MultiBlockCropper(16, 4, num_targets=2, min_context=2)
SETTINGS = {
    "target": functools.partial(EmaTarget, momentum=0.9),
    "predictor": functools.partial(BlockPredictor, width=16, depth=1, num_heads=2),
    "optim": Mock,
}


class FixedPredictor(torch.nn.Module):
    """A predictor that always returns the same features."""

    def __init__(self, features: torch.Tensor):
        super().__init__()
        self.features = features

    def forward(self, tokens, context, targets, grid) -> torch.Tensor:
        return self.features


def ijepa(backbone, **changes) -> IJEPA:
    return IJEPA(backbone, **SETTINGS | changes)


def test_the_loss_is_the_smooth_l1_distance_to_normalized_target_features(vit, views):
    model, crops = ijepa(vit()), CROPPING(views, 0)
    for parameter in model.target.network.parameters():
        parameter.data += 0.01  # the target differs from the online network
    grid = model.target.network(model.backbone.normalize(crops.images)).grid
    predicted = torch.randn(*crops.targets.shape, 24) * 2
    model.predictor = FixedPredictor(predicted)
    total, count = 0.0, 0
    for b in range(6):
        for m, block in enumerate(crops.targets[b]):
            for t, index in enumerate(block.tolist()):
                values = grid[b, :, index // 4, index % 4].tolist()
                mean = sum(values) / 24
                deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 24 + 1e-5)
                for i, value in enumerate(values):
                    error = abs((value - mean) / deviation - predicted[b, m, t, i].item())
                    total += 0.5 * error**2 if error < 1 else error - 0.5
                    count += 1
    assert model.compute_losses(crops)["loss"].item() == pytest.approx(total / count, rel=1e-4)


def test_a_perfect_prediction_has_loss_0_and_a_zero_prediction_is_known(vit, views):
    model, crops = ijepa(vit()), CROPPING(views, 0)
    targets = model.targets(model.backbone.normalize(crops.images), crops.targets)
    torch.testing.assert_close(targets.mean(dim=-1), torch.zeros(targets.shape[:-1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        targets.var(dim=-1, correction=0), torch.ones(targets.shape[:-1]), atol=1e-2, rtol=0
    )
    model.predictor = FixedPredictor(targets)
    assert model.compute_losses(crops)["loss"] == 0
    model.predictor = FixedPredictor(targets + 3)
    assert model.compute_losses(crops)["loss"].item() == pytest.approx(2.5)  # 3 - 1/2, the linear part


def test_the_context_encoder_sees_only_the_context_and_the_target_sees_everything(vit, views):
    model, crops = ijepa(vit()), CROPPING(views, 0)
    seen, encoded, given = [], [], []
    model.encoder.register_forward_hook(lambda _, inputs, tokens: encoded.append(tokens))
    model.target.register_forward_hook(lambda _, inputs, features: seen.append(features.grid))
    model.predictor.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    context = torch.zeros(6, 16).scatter(1, crops.context, 1).view(6, 1, 4, 4).bool()
    context = context.repeat_interleave(4, 2).repeat_interleave(4, 3)
    noise = torch.rand_like(crops.images)
    for images in (
        crops.images,
        torch.where(context, crops.images, noise),
        torch.where(context, noise, crops.images),
    ):
        model.compute_losses(crops._replace(images=images))
    assert encoded[0].shape == (6, 1 + crops.context.shape[1], 24)  # and the class token
    assert torch.equal(given[0], encoded[0][:, 1:])
    assert torch.equal(encoded[0], encoded[1])
    assert not torch.allclose(encoded[0], encoded[2])
    assert not torch.allclose(seen[0], seen[1])


def test_each_block_is_predicted_alone_and_at_its_position():
    torch.manual_seed(0)
    predictor = BlockPredictor(12, width=16, depth=2, num_heads=2)
    tokens, context = torch.randn(2, 3, 12), torch.tensor([[0, 1, 5], [2, 3, 7]])
    targets = torch.tensor([[[8, 9], [12, 13]], [[10, 11], [8, 12]]])
    both = predictor(tokens, context, targets, (4, 4))
    for m in range(2):
        alone = predictor(tokens, context, targets[:, m : m + 1], (4, 4))
        torch.testing.assert_close(both[:, m : m + 1], alone)
    swapped = predictor(tokens, context, targets.flip(-1), (4, 4))
    torch.testing.assert_close(swapped.flip(2), both)
    assert not torch.allclose(both[:, :, 0], both[:, :, 1], atol=1e-3)
    order = torch.tensor([2, 0, 1])
    shuffled = predictor(tokens[:, order], context[:, order], targets, (4, 4))
    torch.testing.assert_close(shuffled, both)  # the position of a token is its index, not its place
    assert not torch.allclose(predictor(tokens[:, order], context, targets, (4, 4)), both, atol=1e-3)


def test_gradients_reach_the_online_network_and_the_predictor_only(vit, views):
    model = ijepa(vit())
    model.compute_losses(CROPPING(views, 0))["loss"].backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert without == {name for name, p in model.named_parameters() if not p.requires_grad}
    assert all("target" in name or "pos_embed" in name for name in without)


@pytest.mark.parametrize("target", [SharedTarget, SeparateTarget])
def test_no_gradient_reaches_a_shared_or_separate_target(target, vit, views):
    model, crops = ijepa(vit(), target=target), CROPPING(views, 0)
    assert not model.targets(crops.images, crops.targets).requires_grad
    assert model.eval_backbone is model.backbone


def test_the_loss_falls_on_one_batch(vit, views):
    model, crops = ijepa(vit()), CROPPING(views, 0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(60):
        loss = model.compute_losses(crops)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


def test_the_target_follows_by_its_momentum_and_is_evaluated(vit, detach_from_trainer):
    model = ijepa(vit())
    detach_from_trainer(model)
    assert model.eval_backbone is model.target.network
    before = model.target.network.model.cls_token.clone()
    model.backbone.model.cls_token.data += 1
    model.update_target(0.5)
    momentum = 1 - (1 - 0.9) / 2  # halfway from 0.9 to 1
    torch.testing.assert_close(model.target.network.model.cls_token, before + 1 - momentum)


def test_patches_of_another_size_are_an_error(vit, views):
    crops = MultiBlockCropper(16, 2, min_context=2)(views, 0)
    with pytest.raises(
        ConfigError, match=r"^mask_patch_size=2: must be the patch size [^\n]*; try mask_patch_size=4$"
    ):
        ijepa(vit()).compute_losses(crops)


def test_a_backbone_that_cannot_skip_patches_is_an_error():
    network = torch.nn.Conv2d(3, 8, 4, 4)
    with pytest.raises(ConfigError, match=r"is not a ViT[^\n]*"):
        ijepa(ModuleBackbone(network, dim=8, patch_size=4))


def test_the_batch_type_is_declared():
    assert IJEPA.batch_type is BlockMaskedImages
