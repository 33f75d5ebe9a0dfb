"""Target encoders: an EMA copy of the online network, the network itself, or a second trained network."""

import copy
import math
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from cim_lightning.checks import check_share


class Target(nn.Module):
    """Base class. Subclasses are called as `target(online, inputs)`."""

    def __init__(self, online: nn.Module):
        super().__init__()

    def update(self, online: nn.Module, progress: float) -> dict[str, float]:
        """Update the target after an optimizer step and return values to log.

        Args:
            progress: share of training done, above 0 and at most 1.
        """
        return {}


class EmaTarget(Target):
    """EMA copy of the online network without gradients: copy = m copy + (1 - m) online after each step.

    The two networks have different inputs (contexts and exemplars). Therefore batch normalization in the copy
    uses statistics of its own batch and has its own running statistics; only its affine parameters are
    averaged. Dropout and stochastic depth are off in the copy.

    Args:
        online: the network to follow.
        momentum: m at the start, 0..1; rises to 1 by a cosine over training.
        tied: names of parameters that are copied instead of averaged. `tied=[cls_token]` is the behavior of
            the released code, whose two networks share the class token.
    """

    def __init__(self, online: nn.Module, momentum: float, tied: Collection[str]):
        super().__init__(online)
        check_share("momentum", momentum)
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
    def update(self, online: nn.Module, progress: float) -> dict[str, float]:
        momentum = 1 - (1 - self.momentum) * (1 + math.cos(math.pi * progress)) / 2
        copies, sources = dict(self.network.named_parameters()), dict(online.named_parameters())
        averaged = [name for name in sources if name not in self.tied]
        torch._foreach_lerp_([copies[n] for n in averaged], [sources[n] for n in averaged], 1 - momentum)
        for name in self.tied:
            copies[name].copy_(sources[name])
        return {"momentum": momentum}


class SharedTarget(Target):
    """The online network itself, with gradients from both inputs (an ablation of the paper)."""

    def forward(self, online: nn.Module, inputs: torch.Tensor) -> Any:
        return online(inputs)


class SeparateTarget(Target):
    """A second trained network, initialized as a copy of the online network (an ablation of the paper)."""

    def __init__(self, online: nn.Module):
        super().__init__(online)
        self.network = copy.deepcopy(online)

    def forward(self, online: nn.Module, inputs: torch.Tensor) -> Any:
        return self.network(inputs)
