"""The base class: normalization, checks of the images, and what holds for an architecture without more."""

import pytest
import torch
from kornia.enhance import Normalize
from torch import nn

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone, Features, Level

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Patches(Backbone):
    """One linear layer on patches of 8 pixels, then a kernel of 2 x 2 cells."""

    def __init__(self, **changes):
        super().__init__(
            **{"name": "patches", "dim": 5, "in_channels": 3, "patch_size": 8, "mean": MEAN, "std": STD}
            | changes
        )
        self.embed = nn.Conv2d(self.in_channels, 5, 8, stride=8)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 5))

    def compute_features(self, images):
        grid = self.embed(images)
        return Features(grid.mean(dim=(2, 3)) + self.cls_token[:, 0], grid)


def test_normalize_equals_kornia_to_the_bit():
    images = torch.rand(4, 3, 19, 23)
    expected = Normalize(torch.tensor(MEAN), torch.tensor(STD))(images)
    assert torch.equal(Patches().normalize(images), expected)
    assert torch.equal(Patches().normalize(images[:, None].expand(-1, 2, -1, -1, -1))[:, 1], expected)
    assert torch.equal(Patches().normalize(images[0]), expected[0])


def test_normalize_by_hand_with_another_number_of_channels():
    backbone = Patches(in_channels=2, mean=[0.5, 0.25], std=[0.5, 2.0])
    images = torch.tensor([[[1.0]], [[0.75]]])
    assert backbone.normalize(images).flatten().tolist() == [1.0, 0.25]
    assert backbone.normalization == {"mean": [0.5, 0.25], "std": [0.5, 2.0]}


def test_mean_and_std_are_not_in_the_state_but_move_with_the_module():
    backbone = Patches()
    assert set(backbone.state_dict()) == {"embed.weight", "embed.bias", "cls_token"}
    assert backbone.to("meta").mean.device.type == "meta"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"mean": [0.5, 0.5]},
            r"^mean=\[0\.5, 0\.5\]: .* each of the 3 channels; try mean=\[0\.5, 0\.5, 0\.5\]",
        ),
        ({"in_channels": 1, "mean": [0.5]}, r"^std=\[.*\]: .* each of the 1 channels; try std=\[0\.5\]$"),
        ({"std": [1.0, 0.0, 1.0]}, r"^std=\[1\.0, 0\.0, 1\.0\]: must be above 0"),
    ],
)
def test_a_wrong_normalization_is_an_error(changes, message):
    with pytest.raises(ConfigError, match=message):
        Patches(**changes)


def test_images_with_other_channels_are_an_error():
    with pytest.raises(ConfigError, match=r"^in_channels=3: the images have 2 channels; try in_channels=2$"):
        Patches()(torch.zeros(1, 2, 16, 16))


def test_images_smaller_than_a_cell_are_an_error_and_other_failures_are_not_hidden():
    backbone = Patches()
    with pytest.raises(ConfigError, match=r"^size=7: too small for patches; try size=8$"):
        backbone(torch.zeros(1, 3, 16, 7))
    backbone.embed.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("another")))
    with pytest.raises(RuntimeError, match="another"):
        backbone(torch.zeros(1, 3, 8, 16))


def test_sizes_must_be_multiples():
    backbone = Patches()
    backbone.check_size((17, 3))
    backbone.size_multiple = 8
    backbone.check_size((16, 40))
    for size in ((16, 20), (20, 16)):
        with pytest.raises(ConfigError, match=r"^crop=20: must be whole patches of 8 .*; try crop=16$"):
            backbone.check_size(size, "crop")
    with pytest.raises(ConfigError, match=r"^size=3: .*; try size=8$"):
        backbone(torch.zeros(1, 3, 8, 3))


def test_the_output_is_the_only_level():
    backbone, images = Patches(), torch.rand(2, 3, 16, 24)
    assert backbone.levels == [Level(5, 8)]
    output = backbone(images)
    for features in backbone.intermediates(images, [0, -1], norm=True):
        assert torch.equal(features.grid, output.grid)
        assert torch.equal(features.pooled, output.pooled)
    with pytest.raises(IndexError):
        backbone.intermediates(images, [1])


def test_nothing_is_known_about_the_layers():
    backbone = Patches()
    assert (backbone.blocks(), backbone.patch_embed, backbone.num_prefix_tokens) == ([], None, 0)
    assert not backbone.skips_patches
    with pytest.raises(ConfigError, match=r"^name=patches: is not a ViT.*; try a vision transformer"):
        backbone.forward_visible(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, dtype=torch.int64))


def test_without_residual_branches_only_no_drop_path_is_possible():
    backbone = Patches()
    copy = backbone.with_drop_path(0)
    assert torch.equal(copy.embed.weight, backbone.embed.weight)
    assert copy.embed.weight is not backbone.embed.weight
    with pytest.raises(ConfigError, match=r"^drop_path=0\.1: patches has no residual.*; try drop_path=0$"):
        backbone.with_drop_path(0.1)


def test_the_whole_backbone_is_one_layer():
    backbone = Patches()
    groups = backbone.param_groups(lr=4.0, weight_decay=0.3, layer_decay=0.5)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    expected = {backbone.embed.weight: 0.3, backbone.embed.bias: 0, backbone.cls_token: 0}
    assert found == {id(p): (2.0, decay) for p, decay in expected.items()}
