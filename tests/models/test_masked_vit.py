"""A ViT on the visible patches only."""

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.masked_vit import MaskedViTEncoder, check_vit, upsample_mask

SHAPE = {"patch_size": 4, "img_size": 20, "embed_dim": 24, "depth": 2, "num_heads": 3}


def vit(**changes) -> Backbone:
    torch.manual_seed(0)
    return Backbone("vit_tiny_patch16_224", SHAPE | changes, "timm", False, "timm").eval()


@pytest.mark.parametrize(
    "changes", [{}, {"dynamic_img_size": True}, {"reg_tokens": 2}, {"no_embed_class": True}]
)
def test_with_all_patches_visible_it_equals_timms_forward(changes):
    backbone, images = vit(**changes), torch.randn(3, 3, 20, 20)
    all_patches = torch.arange(25).expand(3, -1)
    tokens = MaskedViTEncoder()(backbone, images, all_patches)
    torch.testing.assert_close(tokens, backbone.model.forward_features(images))


def test_each_token_is_that_of_its_visible_patch():
    """Without blocks, a token depends on its own patch only."""
    backbone, images = vit(depth=0), torch.randn(2, 3, 20, 20)
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
def test_another_family_is_an_error(name):
    backbone = Backbone(name, {}, "timm", False, "timm")
    with pytest.raises(ConfigError, match=f"^name={name}: is not a ViT[^\n]*try [^\n]*$"):
        check_vit(backbone)
