"""The mask token in every family of backbones."""

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.mask_token import MaskTokenHook

VIT = {"patch_size": 4, "img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 3}
SWIN = {"img_size": 32, "embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
FAMILIES = {
    "vit": ("vit_tiny_patch16_224", VIT),
    "vit, any size": ("vit_tiny_patch16_224", VIT | {"dynamic_img_size": True}),
    "swin": ("swin_tiny_patch4_window7_224", SWIN),
    "resnet": ("resnet18", {}),
    "convnext": ("convnext_atto", {"depths": [1] * 4, "dims": [8] * 4}),
}


def backbone(family: str) -> Backbone:
    torch.manual_seed(0)
    name, kwargs = FAMILIES[family]
    return Backbone(name, kwargs, "timm", False, "timm").eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_features_depend_on_visible_pixels_only(family):
    network, images = backbone(family), torch.randn(2, 3, 32, 32)
    masking = MaskTokenHook(network)
    mask = torch.tensor([[[True, False], [False, False]], [[False, True], [True, True]]])
    hidden = mask.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None]
    features = masking(network, images, mask)
    other_hidden = masking(network, torch.where(hidden, torch.randn_like(images), images), mask)
    assert torch.equal(features.grid, other_hidden.grid)
    other_visible = masking(network, torch.where(hidden, images, torch.randn_like(images)), mask)
    assert not torch.allclose(features.grid, other_visible.grid)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_empty_mask_and_a_past_mask_do_not_change_the_backbone(family):
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
