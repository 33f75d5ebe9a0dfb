"""Parameter groups of a backbone, with a learning rate that falls from block to block."""

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import Any

from torch import nn

from cim_lightning.optim import POSITION_TABLES

# Parameters without weight decay, besides those with one dimension (biases and norms).
NO_WEIGHT_DECAY = (*POSITION_TABLES, "*pos_embedding", "*cls_token", "*class_token", "*reg_token")


def layer_decay_groups(
    module: nn.Module, blocks: Sequence[nn.Module], lr: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Return groups of the trainable parameters, as described in `Backbone.param_groups`."""
    layers = layer_of_parameters(module, blocks)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        exempt = parameter.ndim <= 1 or any(fnmatch(name, pattern) for pattern in NO_WEIGHT_DECAY)
        if (layers[name], exempt) not in groups:
            scale = layer_decay ** (len(blocks) + 1 - layers[name])
            decay = 0.0 if exempt else weight_decay
            groups[layers[name], exempt] = {"params": [], "lr": lr * scale, "weight_decay": decay}
        groups[layers[name], exempt]["params"].append(parameter)
    return list(groups.values())


def layer_of_parameters(module: nn.Module, blocks: Sequence[nn.Module]) -> dict[str, int]:
    """Return the layer of each parameter by name: 0 before the first block, i + 1 from block i on."""
    block_of = {id(p): i for i, block in enumerate(blocks, start=1) for p in block.parameters()}
    layers, latest = {}, 0
    for name, parameter in module.named_parameters():
        latest = layers[name] = block_of.get(id(parameter), latest)
    return layers
