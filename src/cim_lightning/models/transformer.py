"""Size checks and initialization of the decoders and the backbone."""

import math

from torch import nn

from cim_lightning.checks import check_at_least, check_divides
from cim_lightning.errors import ConfigError


def check_sizes(width: int, depth: int, mlp_ratio: float, num_heads: int | None = None) -> None:
    """Raise ConfigError for sizes that the blocks of a decoder cannot have.

    With attention, the width is a multiple of num_heads, and of 4 for sine-cosine positions.
    """
    if num_heads is not None:
        check_at_least("num_heads", num_heads, 1)
        if width < 4 or width % 4:
            unit = math.lcm(4, num_heads)
            rule = "must be a multiple of 4, for sine-cosine positions"
            raise ConfigError("width", width, rule, suggest=max(round(width / unit), 1) * unit)
        check_divides("num_heads", num_heads, width, f"must divide width={width}")
    check_at_least("width", width, 1)
    check_at_least("depth", depth, 1)
    if width * mlp_ratio < 1:
        raise ConfigError("mlp_ratio", mlp_ratio, "must give the MLP at least one hidden unit", suggest=4)


def init_xavier(module: nn.Module) -> None:
    """Initialize a linear layer: Xavier-uniform weights, zero bias. To be used with nn.Module.apply."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
