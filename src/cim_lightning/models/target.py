"""Where target features come from: an EMA copy of the online network, the network itself, or a second one.

A target is built around the online network that it serves, is called with it, and is told of each step.
"""

import copy
import math
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from cim_lightning.errors import ConfigError


class EmaTarget(nn.Module):
    """Slow copy without gradient: after each optimizer step, copy = m copy + (1 - m) online.

    Batch normalization: the copy's affine parameters follow by EMA like all others, but it normalizes with
    the statistics of the batch before it, contexts, never with the online network's, which describe
    exemplars; its running statistics are its own. Dropout and stochastic depth are off in the copy.

    Args:
        online: the network to follow.
        momentum: m before the first step, 0..1; rises to 1 by a cosine over training.
        tied: names of parameters that are copied at once instead of averaged. The released code has no
            EMA copy of the class token: `tied=[cls_token]` does as it does.
    """

    def __init__(self, online: nn.Module, momentum: float, tied: Collection[str]):
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ConfigError(f"target.momentum={momentum}: must be in 0..1; try {min(max(momentum, 0), 1)}")
        self.momentum = momentum
        self.network = copy.deepcopy(online).requires_grad_(False)
        self.tied = {name for name, _ in online.named_parameters() if name.split(".")[-1] in tied}
        self.train()

    def train(self, mode: bool = True) -> "EmaTarget":
        super().train(False)
        self.training = mode
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(mode)
        return self

    @torch.no_grad()
    def forward(self, online: nn.Module, inputs: torch.Tensor) -> Any:
        return self.network(inputs)

    @torch.no_grad()
    def follow(self, online: nn.Module, progress: float) -> dict[str, float]:
        """Moves towards the online network; call once per optimizer step, with the share of training done.

        Returns what is worth logging, by name.
        """
        momentum = 1 - (1 - self.momentum) * (1 + math.cos(math.pi * progress)) / 2
        mine = dict(self.network.named_parameters())
        pairs = [
            (mine[name], parameter) for name, parameter in online.named_parameters() if name not in self.tied
        ]
        torch._foreach_lerp_([copied for copied, _ in pairs], [p for _, p in pairs], 1 - momentum)
        for name, parameter in online.named_parameters():
            if name in self.tied:
                mine[name].copy_(parameter)
        return {"momentum": momentum}


class SharedTarget(nn.Module):
    """The online network itself: both sides get gradients (the paper's ablation)."""

    def __init__(self, online: nn.Module):
        super().__init__()

    def forward(self, online: nn.Module, inputs: torch.Tensor) -> Any:
        return online(inputs)

    def follow(self, online: nn.Module, progress: float) -> dict[str, float]:
        """Nothing to move."""
        return {}


class SeparateTarget(nn.Module):
    """A second network, trained beside the first, equal only at the start (the paper's ablation)."""

    def __init__(self, online: nn.Module):
        super().__init__()
        self.network = copy.deepcopy(online)

    def forward(self, online: nn.Module, inputs: torch.Tensor) -> Any:
        return self.network(inputs)

    def follow(self, online: nn.Module, progress: float) -> dict[str, float]:
        """Nothing to move: the optimizer does."""
        return {}
