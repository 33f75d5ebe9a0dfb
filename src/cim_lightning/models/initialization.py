"""Initialization of a timm model: that of the paper's released code, fixed positions, frozen layers."""

from typing import Any

import torch
from timm.layers import build_sincos2d_pos_embed
from torch import nn

from cim_lightning.checks import check_one_of
from cim_lightning.errors import ConfigError


def initialize(model: Any, name: str, init: str, positions: str, freeze_patch_embed: bool) -> None:
    """Initialize a timm model and freeze what is not trained; for the arguments see `TimmBackbone`.

    Raises:
        ConfigError: there is no such initialization, or the model has no position or patch embeddings.
    """
    check_one_of("init", init, ("timm", "xavier"))
    check_one_of("positions", positions, ("timm", "sincos"))
    if init == "xavier":
        init_timm_xavier(model)
    if positions == "sincos":
        _require(model, name, "pos_embed", "positions", positions, "timm")
        fix_sincos_positions(model)
    if freeze_patch_embed:
        _require(model, name, "patch_embed", "freeze_patch_embed", True, False)
        model.patch_embed.requires_grad_(False)


def _require(model: Any, name: str, module: str, parameter: str, value: Any, suggest: Any) -> None:
    if getattr(model, module, None) is None:
        raise ConfigError(parameter, value, f"{name} has no {module}", suggest=suggest)


def init_xavier(module: nn.Module) -> None:
    """Initialize a linear layer: Xavier-uniform weights, zero bias. To be used with nn.Module.apply."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def init_timm_xavier(model: nn.Module) -> None:
    """Initialize a timm model: its linear layers, patch embedding and class token."""
    model.apply(init_xavier)
    if hasattr(model, "patch_embed"):  # as a linear layer on flattened patches, although it is a convolution
        projection: nn.Conv2d = model.patch_embed.proj  # pyright: ignore
        nn.init.xavier_uniform_(projection.weight.view(len(projection.weight), -1))
        if projection.bias is not None:
            nn.init.zeros_(projection.bias)
    if getattr(model, "cls_token", None) is not None:
        nn.init.normal_(model.cls_token, std=0.02)  # pyright: ignore


def fix_sincos_positions(model: Any) -> None:
    """Set a timm model's position table to 2d sine-cosine embeddings, 0 for prefix tokens, and freeze it.

    The patches are in row-major order. The quarters of an embedding are the sines of y, the sines of x, the
    cosines of y and the cosines of x. For other grids, timm resamples the table, bicubic and antialiased.
    """
    table = model.pos_embed
    grid = build_sincos2d_pos_embed(list(model.patch_embed.grid_size), table.shape[2])
    prefix = grid.new_zeros(table.shape[1] - len(grid), table.shape[2])
    with torch.no_grad():
        table.copy_(torch.cat((prefix, grid))[None])
    table.requires_grad_(False)
