"""Counted operations of every backbone and decoder of conf/ against formulas per layer.

The oracle adds up the linear layers and convolutions that a forward pass calls, and the products inside of
attention and correlation by a formula per architecture. A gradient of weights or of inputs needs as many
operations as the forward pass of a layer.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.flops import flops_per_image
from cim_lightning.models.backbone import Backbone, Features

SIZE = 224  # of the images in pixels; on the meta device, they cost nothing
SHALLOW = {  # kwargs of a small model of a family
    "vit": "depth=2",
    "swin": "depths=[2,1,1,1]",
    "convnext": "depths=[1,1,1,1]",
    "resnet": "layers=[1,1,1,1]",
}
DIM, CONTEXT, EXEMPLAR, NUM_EXEMPLARS = 7, (5, 3), (2, 4), 3


def backbone_attention(backbone: Any) -> int:
    """Return the operations of scores and weighted sums, per image."""
    model = backbone.model
    if hasattr(model, "layers"):  # Swin: windows of 7 x 7 patches
        stages = [(stage.blocks[0].dim, len(stage.blocks)) for stage in model.layers]
        return sum(
            4 * blocks * (SIZE // 4 // 2**i) ** 2 * 7**2 * dim for i, (dim, blocks) in enumerate(stages)
        )
    if not hasattr(model, "blocks"):
        return 0
    tokens = (SIZE // backbone.patch_size) ** 2 + 1
    return 4 * len(model.blocks) * tokens**2 * model.embed_dim


class Step(nn.Module):
    """A training step that adds up all outputs."""

    def __init__(self, network: nn.Module, forward: Callable[[Any, Any], list[torch.Tensor]]):
        super().__init__()
        self.network, self.forward_network = network, forward

    def compute_batch_losses(self, batch: Any) -> dict[str, torch.Tensor]:
        outputs = self.forward_network(self.network, batch[0])
        return {"loss": torch.stack([output.sum() for output in outputs]).sum()}


def assert_counted(step: Step, crops: Any, images: int, products: int) -> None:
    """Compare a count to that by hand, with operations of products of two activations per image."""
    forward, backward = [products * images], [2 * products * images]

    def count(module: Any, inputs: Any, output: torch.Tensor) -> None:
        operations = 2 * output.numel() * module.weight[0].numel()  # of a group: only its own channels
        forward.append(operations)
        backward.append(operations * (int(module.weight.requires_grad) + int(inputs[0].requires_grad)))

    for module in step.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(count)
    found = flops_per_image(step, crops)
    assert found.forward == pytest.approx(sum(forward) / images, rel=1e-9)
    assert found.backward == pytest.approx(sum(backward) / images, rel=1e-9)


def build(group: str, name: str, *overrides: str) -> Any:
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(f"{group}/{name}", list(overrides))
    with torch.device("meta"):
        return instantiate(OmegaConf.to_container(cfg[group]), _convert_="object")


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONF / "backbone").glob("[!_]*.yaml")))
def test_backbones(name):
    family = name.split("_")[0].rstrip("0123456789")
    given = ["backbone.in_channels=3", f"++backbone.kwargs.{SHALLOW[family]}"]
    backbone: Backbone = build("backbone", name, *given)
    step = Step(backbone, lambda network, images: [*network(images)])
    assert_counted(step, torch.empty(2, 3, SIZE, SIZE, device="meta"), 2, backbone_attention(backbone))


def features(images: int, grid: tuple[int, int]) -> Features:
    """Return features that need a gradient, as those of a trained backbone."""
    with torch.device("meta"):
        return Features(*(torch.empty(images, DIM, *size, requires_grad=True) for size in ((), grid)))


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONF / "decoder").glob("[!_]*.yaml")))
def test_decoders(name):
    settings, patches, exemplar = build("decoder", name), math.prod(CONTEXT), math.prod(EXEMPLAR)
    width = settings.keywords["width"]
    keys = NUM_EXEMPLARS * (exemplar + 1)  # each exemplar has a class token
    products = {
        "cross_attention": 4 * patches * keys * width,
        "cross_attention_small": 4 * patches * keys * width,
        "joint": 4 * (patches * keys + keys**2) * width,  # the exemplars attend to each other, too
        "convolution": 2 * NUM_EXEMPLARS * patches * exemplar * width,
        "pixels": 4 * settings.keywords.get("depth") * (patches + 1) ** 2 * width,
    }
    with torch.device("meta"):
        decoder = settings(DIM, pixels=12) if name == "pixels" else settings(DIM)

    def decode(decoder: Any, images: torch.Tensor) -> list[torch.Tensor]:
        if name != "pixels":
            return [decoder(features(2, CONTEXT), features(2 * NUM_EXEMPLARS, EXEMPLAR), (20, 20))]
        visible = torch.empty(2, 4, dtype=torch.long, device="meta")
        return [decoder(torch.empty(2, 5, DIM, requires_grad=True, device="meta"), visible, CONTEXT)]

    assert_counted(Step(decoder, decode), torch.empty(2, 1), 2, products[name])


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_gradients_of_grouped_convolutions(groups, transposed):
    build = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer, images = build(6, 12, kernel_size=(3, 2), stride=2, groups=groups), torch.empty(2, 6, 9, 8)
    places = 9 * 8 if transposed else 4 * 4  # where the kernel is applied
    operations = 2 * places * (6 * 12 // groups) * 3 * 2
    step = Step(layer, lambda layer, images: [layer(images)])
    assert flops_per_image(step, images) == (operations, operations)  # images need no gradient
    step = Step(layer, lambda layer, images: [layer(images.requires_grad_())])
    assert flops_per_image(step, images) == (operations, 2 * operations)
