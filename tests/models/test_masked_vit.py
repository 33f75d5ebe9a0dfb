"""A ViT that is shown some patches only."""

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.masked_vit import MaskedViTEncoder, check_vit, on_patches

SHAPE = {"patch_size": 4, "img_size": 20, "embed_dim": 24, "depth": 2, "num_heads": 3}


def vit(**changes) -> Backbone:
    torch.manual_seed(0)
    return Backbone("vit_tiny_patch16_224", SHAPE | changes, "timm", False, "timm").eval()


@pytest.mark.parametrize(
    "changes", [{}, {"dynamic_img_size": True}, {"reg_tokens": 2}, {"no_embed_class": True}]
)
def test_with_nothing_hidden_it_is_timms_own_forward(changes):
    backbone, images = vit(**changes), torch.randn(3, 3, 20, 20)
    all_of_them = torch.arange(25).expand(3, -1)
    tokens = MaskedViTEncoder()(backbone, images, all_of_them)
    torch.testing.assert_close(tokens, backbone.model.forward_features(images))


def test_each_token_belongs_to_the_patch_it_is_asked_for():
    """Attention aside, a token depends on its own patch: blocks are taken out to see it."""
    backbone, images = vit(depth=0), torch.randn(2, 3, 20, 20)
    whole = backbone.model.forward_features(images)[:, 1:]
    asked = torch.tensor([[7, 3, 24], [0, 11, 5]])
    tokens = MaskedViTEncoder()(backbone, images, asked)[:, 1:]
    for i in range(2):
        torch.testing.assert_close(tokens[i], whole[i, asked[i]])


def test_pixels_of_patches_that_are_not_asked_for_move_nothing():
    backbone, images = vit(), torch.randn(1, 3, 20, 20)
    asked = torch.tensor([[0, 6, 13]])
    before = MaskedViTEncoder()(backbone, images, asked)
    changed = torch.randn_like(images)
    for patch in asked[0].tolist():
        rows, columns = (slice(4 * at, 4 * at + 4) for at in divmod(patch, 5))
        changed[:, :, rows, columns] = images[:, :, rows, columns]
    assert torch.equal(before, MaskedViTEncoder()(backbone, changed, asked))


def test_cells_cover_their_patches():
    mask = torch.tensor([[[True, False], [False, True]]])
    fine = on_patches(mask, (4, 4), "cropping.mask_patch_size")
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert fine[0].int().tolist() == expected
    with pytest.raises(ConfigError, match=r"^cropping\.mask_patch_size: 2 cells a side .*5 a side.*try"):
        on_patches(mask, (5, 5), "cropping.mask_patch_size")


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224"])
def test_another_family_is_told_so_in_one_line(name):
    backbone = Backbone(name, {}, "timm", False, "timm")
    with pytest.raises(ConfigError, match=f"^method=mae: [^\n]*backbone.name={name}[^\n]*try [^\n]*$"):
        check_vit(backbone, "mae")
