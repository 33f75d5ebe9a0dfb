"""A learned token in the place of hidden patches, for every family."""

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
def test_what_lies_under_hidden_cells_is_not_seen_and_the_rest_is(family):
    network, images = backbone(family), torch.randn(2, 3, 32, 32)
    masking = MaskTokenHook(network)
    mask = torch.tensor([[[True, False], [False, False]], [[False, True], [True, True]]])
    under = mask.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None]
    seen = masking(network, images, mask)
    other = masking(network, torch.where(under, torch.randn_like(images), images), mask)
    assert torch.equal(seen.grid, other.grid)
    moved = masking(network, torch.where(under, images, torch.randn_like(images)), mask)
    assert not torch.allclose(seen.grid, moved.grid)


@pytest.mark.parametrize("family", FAMILIES)
def test_afterwards_and_with_nothing_hidden_the_backbone_is_itself(family):
    network, images = backbone(family), torch.randn(2, 3, 32, 32)
    before = network(images)
    masking = MaskTokenHook(network)
    nothing = masking(network, images, torch.zeros(2, 4, 4, dtype=torch.bool))
    masking(network, images, torch.ones(2, 4, 4, dtype=torch.bool))
    for features in (nothing, network(images)):
        assert torch.equal(before.grid, features.grid)
        assert torch.equal(before.pooled, features.pooled)


def test_hidden_patches_are_the_token_where_the_network_embeds():
    network = backbone("vit")
    masking = MaskTokenHook(network)
    seen = []
    network.model.patch_drop.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 2, 5] = True
    masking(network, torch.randn(1, 3, 32, 32), mask)
    place = 1 + 2 * 8 + 5  # after the class token
    torch.testing.assert_close(seen[0][0, place], masking.token + network.model.pos_embed[0, place])


def test_an_error_inside_leaves_nothing_hidden():
    network = backbone("vit")
    masking = MaskTokenHook(network)
    with pytest.raises(ConfigError):
        masking(network, torch.randn(1, 3, 32, 32), torch.zeros(1, 5, 5, dtype=torch.bool))
    assert masking.mask is None
