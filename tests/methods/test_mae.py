"""MAE: loss against a transcription, and an encoder without the masked patches."""

import functools
import math
from unittest.mock import Mock

import pytest
import torch

from cim_lightning.cropping.masking import MaskedCropper
from cim_lightning.errors import ConfigError
from cim_lightning.methods.mae import MAE
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.masked_pixels import patch_pixels
from cim_lightning.models.pixel_decoder import PixelDecoder
from cim_lightning.models.timm_backbone import TimmBackbone

DECODER = functools.partial(PixelDecoder, width=16, depth=1, num_heads=2, mlp_ratio=2.0)
CROPPING = MaskedCropper(16, 4, 0.75)


class FixedDecoder(torch.nn.Module):
    """A decoder that always returns the same pixels."""

    def __init__(self, pixels: torch.Tensor):
        super().__init__()
        self.pixels = pixels

    def forward(self, tokens, visible, grid) -> torch.Tensor:
        return self.pixels


def mae(backbone: Backbone, norm_pix_loss: bool = True, **changes) -> MAE:
    return MAE(
        **{"backbone": backbone, "decoder": DECODER, "optim": Mock} | changes,
        norm_pix_loss=norm_pix_loss,
    )


def patches_of(images: torch.Tensor, side: int) -> list[list[torch.Tensor]]:
    """Return the patches of every image, by slicing."""
    columns = images.shape[-1] // side
    return [
        [
            image[
                :,
                side * (i // columns) : side * (i // columns) + side,
                side * (i % columns) : side * (i % columns) + side,
            ]
            for i in range(columns**2)
        ]
        for image in images
    ]


def test_a_patch_without_contrast_is_divided_by_the_published_epsilon():
    assert not patch_pixels(torch.full((1, 3, 16, 16), 0.5), 4, True).any()
    images = torch.full((1, 3, 16, 16), 0.0)
    images[..., ::2] = 2e-3  # half of the pixels of each patch: the unbiased variance is 1e-6 * n / (n - 1)
    targets = patch_pixels(images, 4, True)
    n = targets.shape[-1]
    torch.testing.assert_close(targets.amax(), torch.tensor(1e-3 / math.sqrt(1e-6 * n / (n - 1) + 1e-6)))


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_the_loss_is_the_mean_square_error_over_masked_patches(vit, views, norm_pix_loss, normalize):
    crops = CROPPING(views, 0)
    model = mae(vit(), norm_pix_loss)
    images = torch.arange(3 * 16 * 16.0).view(1, 3, 16, 16)
    predicted = torch.randn(6, 16, 48)
    total, count = 0.0, 0
    layout = patch_pixels(images, 4, False)[0, 0].long()  # order of the pixels of a patch
    first_patch = images[0, :, :4, :4].flatten().long().tolist()
    order = [first_patch.index(int(pixel)) for pixel in layout]
    for b, patches in enumerate(patches_of(normalize(crops.images), 4)):
        for n, patch in enumerate(patches):
            if not crops.mask[b].flatten()[n]:
                continue
            values = patch.flatten().tolist()
            if norm_pix_loss:
                mean = sum(values) / 48
                deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 47 + 1e-6)
                values = [(v - mean) / deviation for v in values]
            total += sum((values[order[i]] - predicted[b, n, i].item()) ** 2 for i in range(48)) / 48
            count += 1
    model.decoder = FixedDecoder(predicted)
    assert count == 6 * 12
    assert model.compute_losses(crops)["loss"].item() == pytest.approx(total / count, rel=1e-4)


def test_a_perfect_prediction_has_loss_0_and_visible_patches_do_not_count(vit, views, normalize):
    crops = CROPPING(views, 0)
    model = mae(vit())
    perfect = patch_pixels(normalize(crops.images), 4, True)
    model.decoder = FixedDecoder(perfect)
    assert model.compute_losses(crops)["loss"] < 1e-9
    model.decoder = FixedDecoder(torch.where(crops.mask.flatten(1)[..., None], perfect, perfect + 9))
    assert model.compute_losses(crops)["loss"] < 1e-9
    model.decoder = FixedDecoder(torch.zeros_like(perfect))
    assert model.compute_losses(crops)["loss"].item() == pytest.approx(
        47 / 48, abs=1e-3
    )  # the variance of normalized pixels


def test_masked_patches_do_not_enter_the_encoder(vit, views):
    crops, model = CROPPING(views, 0), mae(vit())
    outputs = []
    model.encoder.register_forward_hook(lambda _, inputs, tokens: outputs.append(tokens))
    model.compute_losses(crops)
    masked = crops.mask.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    model.compute_losses(
        crops._replace(images=torch.where(masked, torch.randn_like(crops.images), crops.images))
    )
    model.compute_losses(
        crops._replace(images=torch.where(masked, crops.images, torch.randn_like(crops.images)))
    )
    assert outputs[0].shape == (6, 1 + 4, 24)  # a quarter of sixteen patches, and the class token
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])


def test_cells_may_be_several_patches(vit, views):
    crops = MaskedCropper(16, 8, 0.5)(views, 0)
    assert mae(vit()).compute_losses(crops)["loss"].isfinite()
    with pytest.raises(ConfigError, match=r"^mask_patch_size: .*multiple of the patch size"):
        mae(vit()).compute_losses(MaskedCropper(16, 2, 0.5)(views, 0))


def test_gradients_reach_every_trainable_parameter(vit, views):
    model = mae(vit())
    model.compute_losses(CROPPING(views, 0))["loss"].backward()
    assert [
        n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ] == []


def test_the_loss_falls_on_one_batch(vit, views):
    model, crops = mae(vit()), CROPPING(views, 0)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = model.compute_losses(crops)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


def test_a_backbone_other_than_a_vit_is_an_error():
    with pytest.raises(ConfigError, match=r"^name=resnet18: is not a ViT[^\n]*the method simmim$"):
        mae(TimmBackbone("resnet18", {}, "timm", False, "timm"))
