"""Alignment and uniformity by hand, and attention maps against a reference implementation."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from cim_lightning.data.datamodule import ImageData
from cim_lightning.data.source import Splits
from cim_lightning.data.synthetic.dataset import SyntheticScenes
from cim_lightning.evaluation.representation import Representation, alignment, attention, draw, uniformity
from cim_lightning.models.module_backbone import ModuleBackbone
from cim_lightning.models.timm_backbone import TimmBackbone


def timm_backbone(name, **kwargs):
    return TimmBackbone(name, kwargs, positions="timm", freeze_patch_embed=False, init="timm").eval()


def test_alignment_is_the_mean_squared_distance_of_directions():
    first = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    second = torch.tensor([[5.0, 0.0], [0.0, -3.0]])  # the same direction; the opposite one, at distance 2
    assert alignment(first, second) == pytest.approx((0 + 4) / 2)


def test_uniformity_of_three_directions():
    # The pairs have squared distances 2, 4 and 2.
    features = torch.tensor([[1.0, 0.0], [0.0, 7.0], [-2.0, 0.0]])
    expected = math.log((2 * math.exp(-4) + math.exp(-8)) / 3)
    assert uniformity(features) == pytest.approx(expected)
    assert uniformity(torch.ones(4, 3)) == pytest.approx(0)


def test_alignment_compares_two_random_views_of_each_image(context):
    scenes = SyntheticScenes(6, 40, 3)
    settings = {"view_size": 32, "view_scale": (0.2, 1), "view_ratio": (1, 1), "view_flip": 0.5}
    sampling = {"batch_size": 4, "num_workers": 0, "seed": 0}
    data = ImageData(lambda: Splits(scenes, scenes), lambda views, seed: views, **settings, **sampling)
    given = context(data=data)
    metrics = Representation(num_images=5, num_pictures=0)(given)
    features = []
    for epoch in range(2):
        batches = data.eval_dataloader("val", 5, data.view, epoch=epoch)
        views = torch.cat([batch.views for batch in batches]).float() / 255
        with torch.no_grad():
            grid = given.backbone(given.backbone.normalize(views)).grid
        features.append([vector / vector.norm() for vector in grid.mean(dim=(2, 3))])
    distances = [(a - b).norm().item() ** 2 for a, b in zip(*features, strict=True)]
    assert min(distances) > 1e-4
    assert metrics["alignment"] == pytest.approx(sum(distances) / 5, rel=1e-2)


@pytest.mark.parametrize("class_token", [True, False])
def test_attention_is_softmax_of_queries_and_keys(class_token):
    torch.manual_seed(0)
    kwargs = {"depth": 2, "embed_dim": 12, "num_heads": 3, "patch_size": 8, "img_size": 32}
    pooling = {"class_token": class_token, "global_pool": "token" if class_token else "avg"}
    backbone = timm_backbone("vit_tiny_patch16_224", dynamic_img_size=True, **kwargs, **pooling)
    images = torch.randn(2, 3, 16, 24)
    maps = attention(backbone, images)
    assert maps is not None
    assert maps.shape == (2, 3, 2, 3)
    model = backbone.model

    inputs = []
    model.blocks[-1].attn.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    with torch.no_grad():
        model.forward_features(images)
        q, k, _ = model.blocks[-1].attn.qkv(inputs[0]).reshape(2, -1, 3, 3, 4).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / 2).softmax(dim=-1)  # heads of 4 coordinates
    expected = weights[:, :, 0, 1:] if class_token else weights.mean(dim=2)
    torch.testing.assert_close(maps.flatten(2), expected, atol=1e-5, rtol=1e-5)
    assert model.blocks[-1].attn.fused_attn  # the model itself is unchanged


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "swin_tiny_patch4_window7_224"])
def test_backbones_without_global_attention_have_no_attention_maps(name):
    small = {"img_size": 128, "window_size": 2, "depths": (1, 1, 1, 1), "embed_dim": 24}
    kwargs = small if name.startswith("swin") else {}
    assert attention(timm_backbone(name, **kwargs), torch.rand(1, 3, 128, 128)) is None


def test_a_network_without_blocks_has_no_attention_maps():
    backbone = ModuleBackbone(torch.nn.Conv2d(3, 5, 8, 8), dim=5, patch_size=8)
    assert attention(backbone, torch.rand(1, 3, 16, 16)) is None


class TwoViews:
    """Data of constant gray images: whole images of one level per image, random views of two others."""

    def __init__(self, levels):
        self.levels, self.view = levels, SimpleNamespace(size=4)
        self.splits = SimpleNamespace(val=levels)

    def batch(self, levels):
        views = torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
        return DataLoader([(views, torch.full((len(levels),), -1))], batch_size=None)

    def eval_dataloader(self, split, limit, view, rank, world_size, epoch=-1):
        assert split == "val"
        return self.batch([level + 5 * epoch + 5 for level in self.levels[:limit]])


class Angle(torch.nn.Module):
    """Map an image of gray level g to the unit vector at g degrees."""

    def forward(self, images):
        angle = torch.deg2rad(images[:, :1, :1, :1] * 255)
        return torch.cat((angle.cos(), angle.sin()), dim=1)


def test_unlabeled_images_have_metrics_and_the_two_views_of_alignment_differ(context):
    built = context(data=TwoViews([0, 90, 180, 40]))
    built.backbone = ModuleBackbone(Angle(), dim=2, patch_size=4, mean=(0, 0, 0), std=(1, 1, 1))
    evaluator = Representation(num_images=3, num_pictures=1)
    assert evaluator.applies(built) is None
    assert evaluator.forward_passes(built) == 3 * 3 + 1
    found = evaluator(built)
    assert found["alignment"] == pytest.approx((2 * math.sin(math.radians(2.5))) ** 2, rel=1e-2)
    expected = math.log((2 * math.exp(-4) + math.exp(-8)) / 3)  # directions at 0, 90 and 180 degrees
    assert found["uniformity"] == pytest.approx(expected, rel=1e-2)
    assert built.protocol["val_images"] == 3
    assert not (built.folder / "attention.png").exists()


def test_one_image_is_not_enough(context):
    built = context(data=TwoViews([0]))
    assert Representation(9, 1).applies(built) == "needs at least two validation images"


def test_a_picture_has_one_row_per_image_and_one_titled_column_per_head():
    images = torch.rand(2, 3, 8, 12)
    maps = torch.rand(2, 8, 2, 3)
    axes = draw(images, maps).axes
    titles = ["image", *(f"head {i}" for i in range(1, 7))]  # the first six heads only
    assert [cell.get_title() for cell in axes] == titles + [""] * 7
    for i in range(2):
        row = [cell.images[0] for cell in axes[7 * i : 7 * (i + 1)]]
        assert torch.equal(torch.tensor(row[0].get_array()), images[i].permute(1, 2, 0))
        for cell, head in zip(row[1:], maps[i], strict=False):
            assert torch.equal(torch.tensor(cell.get_array()), head)
            assert cell.get_clim() == pytest.approx((0, head.max().item()))
            assert cell.get_cmap().name == "magma"


@pytest.mark.parametrize(("channels", "shown"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (6, [0, 1, 2])])
def test_images_of_any_number_of_channels_are_drawn_in_gray_or_rgb(channels, shown):
    images = torch.rand(1, channels, 8, 8)
    (cell, _) = draw(images, torch.rand(1, 1, 2, 2)).axes
    assert torch.equal(torch.tensor(cell.images[0].get_array()), images[0, shown].permute(1, 2, 0))
