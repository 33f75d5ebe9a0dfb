"""A ViT on visible patches only, and the mask token in every family of backbones."""

import pytest
import torch
from torch import nn

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.masked_backbone import MaskedViTEncoder, MaskTokenHook, upsample_mask
from cim_lightning.models.timm_backbone import TimmBackbone

SHAPE = {"patch_size": 4, "img_size": 20, "embed_dim": 24, "depth": 2, "num_heads": 3}
SWIN = {"img_size": 32, "embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
FAMILIES = {
    "vit": ("vit_tiny_patch16_224", SHAPE | {"img_size": 32}),
    "vit, any size": ("vit_tiny_patch16_224", SHAPE | {"img_size": 32, "dynamic_img_size": True}),
    "swin": ("swin_tiny_patch4_window7_224", SWIN),
    "resnet": ("resnet18", {}),
    "convnext": ("convnext_atto", {"depths": [1] * 4, "dims": [8] * 4}),
}


def vit(**changes) -> Backbone:
    torch.manual_seed(0)
    return TimmBackbone("vit_tiny_patch16_224", SHAPE | changes, "timm", False, "timm").eval()


@pytest.mark.parametrize(
    "changes", [{}, {"dynamic_img_size": True}, {"reg_tokens": 2}, {"no_embed_class": True}]
)
def test_with_all_patches_visible_the_output_equals_forward_features(changes):
    backbone, images = vit(**changes), torch.randn(3, 3, 20, 20)
    all_patches = torch.arange(25).expand(3, -1)
    tokens = MaskedViTEncoder()(backbone, images, all_patches)
    torch.testing.assert_close(tokens, backbone.model.forward_features(images))


def test_each_token_is_the_token_of_its_visible_patch():
    """Without blocks, a token depends on its own patch only."""
    backbone, images = vit(), torch.randn(2, 3, 20, 20)
    backbone.model.blocks = nn.Sequential()
    expected = backbone.model.forward_features(images)[:, 1:]
    visible = torch.tensor([[7, 3, 24], [0, 11, 5]])
    tokens = MaskedViTEncoder()(backbone, images, visible)[:, 1:]
    for i in range(2):
        torch.testing.assert_close(tokens[i], expected[i, visible[i]])


def test_pixels_of_hidden_patches_have_no_effect():
    backbone, images = vit(), torch.randn(1, 3, 20, 20)
    visible = torch.tensor([[0, 6, 13]])
    before = MaskedViTEncoder()(backbone, images, visible)
    changed = torch.randn_like(images)
    for patch in visible[0].tolist():
        rows, columns = (slice(4 * i, 4 * i + 4) for i in divmod(patch, 5))
        changed[:, :, rows, columns] = images[:, :, rows, columns]
    assert torch.equal(before, MaskedViTEncoder()(backbone, changed, visible))


def test_upsampled_cells_cover_their_patches():
    mask = torch.tensor([[[True, False], [False, True]]])
    fine = upsample_mask(mask, (4, 4))
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert fine[0].int().tolist() == expected
    with pytest.raises(ConfigError, match=r"^mask_patch_size: 2 cells per side .*5 per side.*multiple"):
        upsample_mask(mask, (5, 5))


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224"])
def test_a_backbone_other_than_a_vit_cannot_skip_patches(name):
    backbone = TimmBackbone(name, {}, "timm", False, "timm")
    with pytest.raises(ConfigError, match=f"^name={name}: is not a ViT[^\n]*try [^\n]*$"):
        backbone.check_skips_patches()
    with pytest.raises(ConfigError, match="is not a ViT"):
        MaskedViTEncoder()(backbone, torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, dtype=torch.int64))


def backbone(family: str) -> Backbone:
    torch.manual_seed(0)
    name, kwargs = FAMILIES[family]
    return TimmBackbone(name, kwargs, "timm", False, "timm").eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_features_depend_on_visible_pixels_only(family):
    network, images = backbone(family), torch.randn(2, 3, 32, 32)
    masking = MaskTokenHook(network)
    mask = torch.tensor([[[True, False], [False, False]], [[False, True], [True, True]]])
    hidden = mask.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None]
    features = masking(network, images, mask)
    changed_hidden = masking(network, torch.where(hidden, torch.randn_like(images), images), mask)
    assert torch.equal(features.grid, changed_hidden.grid)
    changed_visible = masking(network, torch.where(hidden, images, torch.randn_like(images)), mask)
    assert not torch.allclose(features.grid, changed_visible.grid)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_empty_mask_and_an_earlier_mask_do_not_change_the_features(family):
    network, images = backbone(family), torch.randn(2, 3, 32, 32)
    before = network(images)
    masking = MaskTokenHook(network)
    unmasked = masking(network, images, torch.zeros(2, 4, 4, dtype=torch.bool))
    masking(network, images, torch.ones(2, 4, 4, dtype=torch.bool))
    for features in (unmasked, network(images)):
        assert torch.equal(before.grid, features.grid)
        assert torch.equal(before.pooled, features.pooled)


def test_the_mask_token_replaces_the_patch_embedding():
    network = backbone("vit")
    masking = MaskTokenHook(network)
    tokens = []
    network.model.patch_drop.register_forward_hook(lambda _, inputs, __: tokens.append(inputs[0]))
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 2, 5] = True
    masking(network, torch.randn(1, 3, 32, 32), mask)
    index = 1 + 2 * 8 + 5  # after the class token
    torch.testing.assert_close(tokens[0][0, index], masking.token + network.model.pos_embed[0, index])


def test_an_error_resets_the_mask():
    network = backbone("vit")
    masking = MaskTokenHook(network)
    with pytest.raises(ConfigError):
        masking(network, torch.randn(1, 3, 32, 32), torch.zeros(1, 5, 5, dtype=torch.bool))
    assert masking.mask is None
