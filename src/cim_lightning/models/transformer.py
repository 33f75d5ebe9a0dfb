"""Checks and initialization that transformers share."""

import math

from torch import nn

from cim_lightning.bounds import at_least
from cim_lightning.errors import ConfigError


def check_attention(width: int, num_heads: int) -> None:
    """Raise ConfigError unless the width is a multiple of num_heads, and of 4 for sine-cosine positions."""
    at_least("num_heads", num_heads, 1)
    if width < 4 or width % 4:
        unit = math.lcm(4, num_heads)
        rule = "must be a multiple of 4, for sine-cosine positions"
        raise ConfigError("width", width, rule, suggest=max(round(width / unit), 1) * unit)
    if width % num_heads:
        divisors = [n for n in range(1, width + 1) if width % n == 0]
        nearest = min(divisors, key=lambda n: (abs(n - num_heads), -n))
        raise ConfigError("num_heads", num_heads, f"must divide width={width}", suggest=nearest)


def check_blocks(width: int, depth: int, mlp_ratio: float) -> None:
    """Raise ConfigError unless there is a block, and a hidden unit in its MLP."""
    at_least("width", width, 1)
    at_least("depth", depth, 1)
    if width * mlp_ratio < 1:
        raise ConfigError("mlp_ratio", mlp_ratio, "must give the MLPs a hidden unit", suggest=4)


def init_xavier(module: nn.Module) -> None:
    """Draw the weights of a linear layer Xavier-uniformly and set its bias to 0; for nn.Module.apply."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
