"""Target encoders: an EMA copy of the online network, the network itself, or a second trained network."""

import copy
from collections.abc import Collection, Iterable
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.checks import check_share, did_you_mean
from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.ema import update_average
from cim_lightning.schedule import Schedule


@runtime_checkable
class Target(Protocol):
    """A module that encodes the target's input, beside an online network that it follows or is."""

    def __call__(self, online: nn.Module, inputs: torch.Tensor) -> Any:
        """Return what the online network returns for its inputs."""
        ...

    def update(
        self, online: nn.Module, progress: float, applied: Float[Tensor, ""] | None = None
    ) -> dict[str, float]:
        """Update the target after an optimizer step and return values to log.

        Args:
            online: the network that it follows.
            progress: share of training done, above 0 and at most 1.
            applied: 1; 0 if the optimizer skipped the step, and nothing must change. On the device. None: 1.
        """
        ...


class EmaTarget(nn.Module):
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

    def __init__(self, online: nn.Module, momentum: float = 0.99, tied: Collection[str] = ()):
        super().__init__()
        check_share("momentum", momentum)
        self.momentum = Schedule(momentum, 1)
        self.network = copy.deepcopy(online).requires_grad_(False)
        self.tied = {name for name, _ in online.named_parameters() if name.split(".")[-1] in tied}
        self.tied_names = set(tied)  # as given; of the networks of a method, one suffices
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
    def update(
        self, online: nn.Module, progress: float, applied: Float[Tensor, ""] | None = None
    ) -> dict[str, float]:
        momentum = self.momentum(progress)
        copies, sources = dict(self.network.named_parameters()), dict(online.named_parameters())
        averaged = [name for name in sources if name not in self.tied]
        values: list[Tensor] = [sources[name] for name in averaged]
        averages: list[Tensor] = [copies[name] for name in averaged]
        update_average(averages, values, 1 - momentum, applied)
        for name in self.tied:
            copies[name].copy_(sources[name])
        return {"momentum": momentum}


def check_tied(targets: Iterable[Target]) -> None:
    """Raise ConfigError if a name in `tied` is no parameter of any of the networks of a method."""
    averaged = [target for target in targets if isinstance(target, EmaTarget)]
    own = {n.split(".")[-1] for target in averaged for n, _ in target.network.named_parameters()}
    for given in [target.tied_names for target in averaged]:
        for name in sorted(given - own):
            hint = did_you_mean(name, own)
            raise ConfigError("tied", sorted(given), f"no network has a parameter {name}", hint=hint)


class SharedTarget(nn.Module):
    """The online network itself, with gradients from both inputs (an ablation of the paper)."""

    def __init__(self, online: nn.Module):
        super().__init__()

    def forward(self, online: nn.Module, inputs: torch.Tensor) -> Any:
        return online(inputs)

    def update(
        self, online: nn.Module, progress: float, applied: Float[Tensor, ""] | None = None
    ) -> dict[str, float]:
        return {}


class SeparateTarget(nn.Module):
    """A second trained network, initialized as a copy of the online network (an ablation of the paper)."""

    def __init__(self, online: nn.Module):
        super().__init__()
        self.network = copy.deepcopy(online)

    def forward(self, online: nn.Module, inputs: torch.Tensor) -> Any:
        return self.network(inputs)

    def update(
        self, online: nn.Module, progress: float, applied: Float[Tensor, ""] | None = None
    ) -> dict[str, float]:
        return {}


def averaged_or_online(target: Target, online: Backbone) -> Backbone:
    """Return the EMA copy of a backbone, which is evaluated then; without one, the online backbone."""
    return cast(Backbone, target.network) if isinstance(target, EmaTarget) else online
