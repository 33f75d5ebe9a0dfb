"""SimMIM: loss against a transcription, and gradients with every family of backbones."""

from unittest.mock import Mock

import pytest
import torch

from cim_lightning.cropping.masking import MaskedCropper
from cim_lightning.methods.simmim import SimMIM
from cim_lightning.models.timm_backbone import TimmBackbone

SWIN = {"img_size": 32, "embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
OTHER_FAMILIES = {
    "swin": lambda: TimmBackbone("swin_tiny_patch4_window7_224", SWIN, "timm", False, "timm"),
    "resnet": lambda: TimmBackbone("resnet18", {}, "timm", False, "timm"),
    "convnext": lambda: TimmBackbone(
        "convnext_atto", {"depths": [1] * 4, "dims": [8] * 4}, "timm", False, "timm"
    ),
}
CROPPING = MaskedCropper(16, 8, 0.6)


class FixedHead(torch.nn.Module):
    """A head that always predicts the same pixels."""

    def __init__(self, pixels: torch.Tensor, stride: int):
        super().__init__()
        self.pixels = torch.nn.functional.pixel_unshuffle(pixels, stride)

    def forward(self, grid) -> torch.Tensor:
        return self.pixels


def test_the_loss_is_the_mean_absolute_error_over_masked_pixels(vit, views, normalize):
    model, crops, predicted = SimMIM(vit(), Mock), CROPPING(views, 0), torch.randn(6, 3, 16, 16)
    model.head = FixedHead(predicted, 4)
    images = normalize(crops.images)
    total, count = 0.0, 0
    for b in range(6):
        for y in range(16):
            for x in range(16):
                if crops.mask[b, y // 8, x // 8]:
                    total += (predicted[b, :, y, x] - images[b, :, y, x]).abs().sum().item()
                    count += 3
    assert count == 6 * 3 * 3 * 64  # three of four blocks
    assert model.compute_losses(crops)["loss"].item() == pytest.approx(total / count, rel=1e-5)


def test_visible_pixels_do_not_count(vit, views, normalize):
    model, crops = SimMIM(vit(), Mock), CROPPING(views, 0)
    masked = crops.mask.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    images = normalize(crops.images)
    model.head = FixedHead(torch.where(masked, images, 100.0), 4)
    assert model.compute_losses(crops)["loss"] < 1e-6
    model.head = FixedHead(torch.where(masked, images + 2, images), 4)
    assert model.compute_losses(crops)["loss"].item() == pytest.approx(2)


def test_predictions_do_not_depend_on_masked_pixels(vit, views):
    model, crops, outputs = SimMIM(vit(), Mock), CROPPING(views, 0), []
    model.head.register_forward_hook(lambda _, inputs, pixels: outputs.append(pixels))
    masked = crops.mask.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    for images in (crops.images, torch.where(masked, torch.randn_like(crops.images), crops.images)):
        model.compute_losses(crops._replace(images=images))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("family", ["vit", *OTHER_FAMILIES])
def test_every_trainable_parameter_gets_a_gradient(family, vit, views):
    backbone = vit() if family == "vit" else OTHER_FAMILIES[family]()
    side = 16 if family == "vit" else 32
    cropping = MaskedCropper(side, side // 4, 0.5)
    model = SimMIM(backbone, Mock)
    loss = model.compute_losses(cropping(views, 0))["loss"]
    loss.backward()
    assert loss.isfinite()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert family in ("resnet", "convnext") or model.masking.token.grad.any()
