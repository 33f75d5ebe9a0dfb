"""Optimizer with layer-wise learning-rate decay, linear warm-up, and a linear or cosine schedule to zero."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from timm.optim import param_groups_weight_decay
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from cim_lightning.checks import check_above, check_at_least, check_one_of, check_share
from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.optim import lr_factor


def build_valid(parameter: str, factory: Callable[[], Any]) -> Any:
    """Return what a factory of torch or timm builds; raise ConfigError if it refuses its arguments."""
    try:
        return factory()
    except (AssertionError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()) or "its arguments are out of range"
        raise ConfigError(parameter, rule=f"cannot be built ({reason})") from error


@dataclass
class LayerDecayOptim:
    """Build the optimizer and the schedule of a backbone and a head.

    The head has the learning rate lr, the last layer of the backbone has lr * layer_decay, the layer below
    has lr * layer_decay ** 2, and so on (Bao et al., "BEiT", ICLR 2022). The layers are timm's.
    """

    optimizer: Callable[..., Optimizer]  # called with parameter groups
    lr: float  # learning rate of the head
    lr_for: int | None  # batch size of `lr`, which is scaled linearly to other sizes; None: no scaling
    layer_decay: float  # above 0 and at most 1; 1: no decay
    weight_decay: float  # not applied to biases, norms, class tokens and position tables
    warmup: float  # share of the steps, 0..1, with a linear rise from 0
    schedule: str  # "linear" or "cosine", both to 0

    def __post_init__(self) -> None:
        check_above("lr", self.lr, 0, suggest=1e-4)
        check_at_least("lr_for", self.lr_for, 1)
        check_share("layer_decay", self.layer_decay, zero=False)
        check_at_least("weight_decay", self.weight_decay, 0)
        check_share("warmup", self.warmup)
        check_one_of("schedule", self.schedule, ("linear", "cosine"))
        group = {"params": [nn.Parameter(torch.zeros(1))], "lr": self.lr, "weight_decay": self.weight_decay}
        build_valid("optimizer", functools.partial(self.optimizer, [group], lr=self.lr))

    def __call__(
        self, backbone: Backbone, head: nn.Module, global_batch_size: int, total_steps: int
    ) -> tuple[Optimizer, LambdaLR]:
        """Return the optimizer of all trainable parameters, and its schedule."""
        lr = self.lr if self.lr_for is None else self.lr * global_batch_size / self.lr_for
        groups = self.groups(backbone, lr)
        groups += [{**group, "lr": lr} for group in param_groups_weight_decay(head, self.weight_decay)]
        optimizer = self.optimizer(groups, lr=lr)
        schedule = LambdaLR(optimizer, lambda step: lr_factor(step, total_steps, self.warmup, self.schedule))
        return optimizer, schedule

    def groups(self, backbone: Backbone, lr: float) -> list[dict[str, Any]]:
        """Return the parameter groups of the backbone's trainable parameters, for a head with this `lr`."""
        return backbone.param_groups(lr, self.weight_decay, self.layer_decay)
