"""Weights for another image size, patch size or number of channels, changed to fit a timm model.

The rules are timm's:

* Position tables are resampled, bicubic with antialiasing. The rows of class and register tokens stay.
  A table without a row for the class token equals one with a row of 0, and a row can be added to the token.
* A model without a class token drops that of the weights.
* Relative position tables of windows (Swin, BEiT) are resampled to the window of the model.
* Patch embeddings are resampled so that a resized patch has the same token as before (FlexiViT).
* For one channel, the input channels of the first convolution are summed. Otherwise, they are repeated or
  truncated, and scaled by the number of channels before / after.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from timm.layers import resample_abs_pos_embed, resample_patch_embed, resize_rel_pos_bias_table_simple
from timm.models import adapt_input_conv
from torch import Tensor

from cim_lightning.errors import ConfigError

State = dict[str, Tensor]
RELATIVE_POSITIONS = "relative_position_bias_table"
COMPUTED = ("relative_position_index", "relative_coords_table", "attn_mask")  # buffers that models compute
PREFIX_TOKENS = ("cls_token", "reg_token")


class Adapted(NamedTuple):
    """Weights that fit a model, and what was changed."""

    tensors: State
    changes: list[str]  # for the log, such as "positions 14x14 -> 10x10"


def adapt_weights(tensors: Mapping[str, Tensor], model: Any, source: str) -> Adapted:
    """Return weights that fit a timm model; tensors that no rule changes are returned as they are.

    Args:
        tensors: by timm's names.
        model: timm's model.
        source: of the weights, for messages.

    Raises:
        ConfigError: the model has a class token, but the weights have none.
    """
    state = {name: tensor for name, tensor in tensors.items() if name.split(".")[-1] not in COMPUTED}
    changes: list[str] = []
    _first_convolution(state, model, changes)
    _class_token(state, model, source, changes)
    _positions(state, model, changes)
    _relative_positions(state, model, changes)
    return Adapted(state, changes)


def _first_convolution(state: State, model: Any, changes: list[str]) -> None:
    names = (getattr(model, "pretrained_cfg", None) or {}).get("first_conv") or ()
    parameters = dict(model.named_parameters())
    for name in (names,) if isinstance(names, str) else names:
        key = f"{name}.weight"
        weight, expected = state.get(key), parameters.get(key)
        if weight is None or expected is None:  # another stem, by an argument of timm
            continue
        if weight.ndim != 4 or expected.ndim != 4 or len(weight) != len(expected):
            continue
        channels, kernel = (weight.shape[1], expected.shape[1]), tuple(expected.shape[2:])
        if channels[0] != channels[1]:
            weight = adapt_input_conv(channels[1], weight, channels[0])
            changes.append(f"channels {channels[0]} -> {channels[1]}")
        if tuple(weight.shape[2:]) != kernel and name.startswith("patch_embed"):
            changes.append(f"patches {_size(weight.shape[2:])} -> {_size(kernel)}")
            weight = resample_patch_embed(weight, list(kernel))
        state[key] = weight


def _class_token(state: State, model: Any, source: str, changes: list[str]) -> None:
    if not hasattr(model, "cls_token"):
        return
    if model.cls_token is None and state.pop("cls_token", None) is not None:
        changes.append("class token dropped")
    is_vit = "patch_embed.proj.weight" in state
    if model.cls_token is not None and is_vit and "cls_token" not in state:
        rule = "these weights have no class token, but the backbone has one"
        hint = "try kwargs.class_token=false kwargs.global_pool=avg kwargs.fc_norm=false"
        raise ConfigError("weights", source, rule, hint=hint)


def _positions(state: State, model: Any, changes: list[str]) -> None:
    table, expected = state.get("pos_embed"), getattr(model, "pos_embed", None)
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if table is None or expected is None or grid is None or not table.ndim == expected.ndim == 3:
        return
    rows = expected.shape[1] - math.prod(grid)  # of class and register tokens
    found = _split(table.shape[1], grid, [rows, _num_prefix_tokens(state), 1, 0])
    if found is None:
        return  # not a square grid
    before, found_rows = found
    if before != tuple(grid):
        table = resample_abs_pos_embed(table, list(grid), list(before), num_prefix_tokens=found_rows)
        changes.append(f"positions {_size(before)} -> {_size(grid)}")
    if rows == 0 and found_rows == _num_prefix_tokens(state):
        _add_to_tokens(state, table[:, :found_rows])
    missing = table.new_zeros(1, max(rows - found_rows, 0), table.shape[2])
    state["pos_embed"] = torch.cat((missing, table[:, max(found_rows - rows, 0) :]), dim=1)


def _add_to_tokens(state: State, rows: Tensor) -> None:
    for name in PREFIX_TOKENS:
        if name in state:
            count = state[name].shape[1]
            state[name], rows = state[name] + rows[:, :count], rows[:, count:]


def _num_prefix_tokens(state: State) -> int:
    return sum(state[name].shape[1] for name in PREFIX_TOKENS if name in state)


def _split(rows: int, grid: tuple[int, int], prefixes: list[int]) -> tuple[tuple[int, ...], int] | None:
    """Return the grid of a position table and its number of prefix rows; None if the grid is not square.

    Args:
        rows: of the table.
        grid: of the model, which is tried first.
        prefixes: possible numbers of prefix rows, the most likely first.
    """
    for prefix in prefixes:
        if rows - prefix == math.prod(grid):
            return tuple(grid), prefix
    for prefix in prefixes:
        side = math.isqrt(max(rows - prefix, 0))
        if side and side**2 == rows - prefix:
            return (side, side), prefix
    return None


def _relative_positions(state: State, model: Any, changes: list[str]) -> None:
    resampled = set()
    for name, module in model.named_modules():
        key = f"{name}.{RELATIVE_POSITIONS}"
        table, expected = state.get(key), getattr(module, RELATIVE_POSITIONS, None)
        if table is None or expected is None or table.shape == expected.shape:
            continue
        if table.ndim == expected.ndim and table.shape[-1] == expected.shape[-1]:
            # timm's other function indexes in a way that torch will drop.
            state[key] = resize_rel_pos_bias_table_simple(table, module.window_size, tuple(expected.shape))
            resampled.add(f"relative positions {len(table)} -> {len(expected)}")
    changes += sorted(resampled)


def _size(size: Any) -> str:
    return "x".join(map(str, size))
