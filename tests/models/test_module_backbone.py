"""A torchvision ResNet and a user's own network as backbones."""

import copy
from collections import OrderedDict

import pytest
import torch
import torchvision
from torch import nn

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Level
from cim_lightning.models.last_layers import LastLayers
from cim_lightning.models.module_backbone import ModuleBackbone

STAGES = ("layer1", "layer2", "layer3", "layer4")


class OwnNetwork(nn.Module):
    """Patches of 4 pixels, two residual blocks, a norm that only the output has, and an own pooling."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 7, 4, stride=4)
        self.position = nn.Parameter(torch.randn(7, 1, 1))
        self.first = nn.Conv2d(7, 7, 3, padding=1)
        self.second = nn.Conv2d(7, 7, 3, padding=1)
        self.norm = nn.GroupNorm(1, 7)

    def forward(self, images):
        grid = self.norm(self.second(self.first(self.stem(images) + self.position)))
        return grid.amax(dim=(2, 3)), grid


def resnet(**arguments) -> ModuleBackbone:
    torch.manual_seed(0)
    layers = list(torchvision.models.resnet18(weights=None).named_children())[:-2]  # without pooling and head
    return ModuleBackbone(nn.Sequential(OrderedDict(layers)), dim=512, patch_size=32, **arguments)


def own(**changes) -> ModuleBackbone:
    arguments = {"in_channels": 2, "mean": [0.5, 0.4], "std": [0.2, 0.3], "blocks": ["first", "second"]}
    return ModuleBackbone(OwnNetwork(), **{"dim": 7, "patch_size": 4} | arguments | changes)


def test_the_features_of_a_resnet_are_torchvisions():
    backbone = resnet(name="torchvision resnet18").eval()
    whole = torchvision.models.resnet18(weights=None)
    whole.load_state_dict(backbone.module.state_dict(), strict=False)
    whole.fc = nn.Identity()
    images = torch.randn(2, 3, 64, 96)
    features = backbone(images)
    assert features.grid.shape == (2, 512, 2, 3)
    torch.testing.assert_close(features.pooled, whole.eval()(images))
    assert features.pooled.std() > 0
    assert (backbone.name, resnet().name) == ("torchvision resnet18", "Sequential")


def test_the_levels_of_a_resnet_are_the_outputs_of_its_stages():
    backbone = resnet(blocks=STAGES).train()
    modes = [module.training for module in backbone.modules()]
    backbone.module.bn1.eval()
    modes[[*backbone.modules()].index(backbone.module.bn1)] = False
    state = copy.deepcopy(backbone.state_dict())
    assert backbone.levels == [Level(64, 4), Level(128, 8), Level(256, 16), Level(512, 32)]
    assert modes == [module.training for module in backbone.modules()]
    assert all(torch.equal(value, state[name]) for name, value in backbone.state_dict().items())

    images, net = torch.randn(1, 3, 64, 96), backbone.eval().module
    first = net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(images)))))
    third = net.layer3(net.layer2(first))
    found = backbone.intermediates(images, [2, 0, -2])
    for features, expected in zip(found, (third, first, third), strict=True):
        assert torch.equal(features.grid, expected)
        torch.testing.assert_close(features.pooled, expected.mean(dim=(2, 3)))
    assert not net.layer1._forward_hooks
    with pytest.raises(IndexError):
        backbone.intermediates(images, [4])


def test_an_own_network_keeps_its_pooling():
    backbone, images = own(), torch.randn(3, 2, 12, 20)
    pooled, grid = backbone.module(images)
    features = backbone(images)
    assert torch.equal(features.pooled, pooled)
    assert torch.equal(features.grid, grid)


def test_with_norm_the_last_level_is_the_output():
    backbone, images = own(), torch.randn(3, 2, 12, 20)
    net = backbone.module
    first = net.first(net.stem(images) + net.position)
    expected = {False: (first, net.second(first)), True: (first, net(images)[1])}
    for norm, grids in expected.items():
        found = backbone.intermediates(images, [0, 1], norm=norm)
        assert all(torch.equal(f.grid, grid) for f, grid in zip(found, grids, strict=True))
    last, output = LastLayers(backbone, 1)(images), backbone(images)
    assert torch.equal(last.pooled, output.pooled)
    assert torch.equal(last.grid, output.grid)
    mean = LastLayers(backbone, 2)(images).grid
    torch.testing.assert_close(mean, (first + output.grid) / 2)


def test_each_block_has_its_own_learning_rate():
    backbone = own()
    backbone.module.first.bias.requires_grad_(False)
    groups = backbone.param_groups(lr=8.0, weight_decay=0.1, layer_decay=0.5)
    names = {id(p): name for name, p in backbone.module.named_parameters()}
    found = [(names[id(p)], g["lr"], g["weight_decay"]) for g in groups for p in g["params"]]
    assert sorted(found) == [
        ("first.weight", 2.0, 0.1),
        ("norm.bias", 4.0, 0),
        ("norm.weight", 4.0, 0),
        ("position", 1.0, 0.1),
        ("second.bias", 4.0, 0),
        ("second.weight", 4.0, 0.1),
        ("stem.bias", 1.0, 0),
        ("stem.weight", 1.0, 0.1),
    ]
    torch.optim.AdamW(groups, lr=1.0)


def test_tokens_and_position_tables_have_no_weight_decay():
    vit = torchvision.models.VisionTransformer(8, 4, 1, 2, 16, 16)
    backbone = ModuleBackbone(vit, dim=16, patch_size=4)
    groups = backbone.param_groups(lr=1.0, weight_decay=0.1)
    names = {id(p): name for name, p in vit.named_parameters()}
    decayed = {names[id(p)] for g in groups if g["weight_decay"] for p in g["params"]}
    assert {g["lr"] for g in groups} == {1.0}  # by default, the rate does not decay with the depth
    assert not decayed & {"class_token", "encoder.pos_embedding", "conv_proj.bias"}
    assert {"conv_proj.weight", "encoder.layers.encoder_layer_0.mlp.0.weight"} <= decayed


def test_a_copy_has_its_own_blocks():
    backbone = own()
    copied = copy.deepcopy(backbone)
    assert [id(block) for block in copied.blocks()] == [id(copied.module.first), id(copied.module.second)]
    assert copied.module.first is not backbone.module.first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 6}, r"^dim=6: the map of OwnNetwork has another width; try dim=7$"),
        ({"patch_size": 8}, r"^patch_size=8: OwnNetwork has 4 cells for 16 pixels; try patch_size=4$"),
        ({"size_multiple": 5}, r"^size=16: must be whole patches of 5 .*; try size=15$"),
    ],
)
def test_an_argument_that_does_not_fit_the_output_is_an_error(changes, message):
    with pytest.raises(ConfigError, match=message):
        own(**changes)(torch.zeros(1, 2, 16, 16))


@pytest.mark.parametrize("size", [13, 15, 16, 19])
def test_incomplete_cells_at_the_border_are_allowed(size):
    for padding in (0, 1):
        module = nn.Conv2d(3, 2, 4, stride=4, padding=padding)
        assert ModuleBackbone(module, dim=2, patch_size=4)(torch.zeros(1, 3, size, size)).grid.shape[0] == 1


def test_a_module_without_a_map_is_an_error():
    backbone = ModuleBackbone(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), dim=4, patch_size=2)
    with pytest.raises(ConfigError, match=r"^module=Sequential: must return a map b d h w, or a pair"):
        backbone(torch.zeros(1, 3, 2, 2))


def test_a_vector_of_another_width_is_an_error():
    class Wide(OwnNetwork):
        def forward(self, images):
            pooled, grid = super().forward(images)
            return torch.cat((pooled, pooled), dim=1), grid

    backbone = ModuleBackbone(Wide(), 7, 4, in_channels=2, mean=[0.5] * 2, std=[0.5] * 2)
    with pytest.raises(ConfigError, match=r"^dim=7: the vector of Wide has another width; try dim=14$"):
        backbone(torch.zeros(1, 2, 16, 16))


def test_unknown_blocks_and_blocks_without_a_map_are_errors():
    with pytest.raises(ConfigError, match=r"^blocks=layer5: is not a submodule .*; did you mean layer"):
        resnet(blocks=["layer1", "layer5"])
    flat = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (3, 2, 2)))
    backbone = ModuleBackbone(flat, dim=3, patch_size=1, blocks=["0", "1"])
    with pytest.raises(ConfigError, match=r"^blocks=0: returns no map b d h w in Sequential$"):
        backbone.intermediates(torch.zeros(1, 3, 2, 2), [1])
