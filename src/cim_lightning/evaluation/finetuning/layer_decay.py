"""A rate that falls from layer to layer of a backbone, with warm-up and a polynomial or cosine decay."""

import math
from collections.abc import Callable
from typing import Any

from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.optim import POSITION_TABLES

SETTING = "optim"  # within the part of the evaluation that trains
SCHEDULES = ("poly", "cosine")


class LayerDecayOptim:
    """How a head and the backbone under it are optimized.

    Args:
        optimizer: makes it from parameter groups, each with its rate and weight decay.
        lr: rate of the head.
        lr_for: images a step that `lr` is quoted for and scaled linearly from; None: it holds for any number.
        layer_decay: the backbone's last layer learns at lr * layer_decay, the one below it at
            lr * layer_decay**2, and so on down to the stem, layers as timm groups them; 1 for no decay
            (Bao et al., "BEiT", ICLR 2022).
        weight_decay: none on biases, norms, class tokens and position tables, whatever this says.
        warmup: share of the steps, 0..1, in which the rate rises linearly from 0.
        schedule: "poly", (1 - done)**power, or "cosine", both down to 0.
        power: of poly.

    Raises:
        ConfigError: a setting is outside its limits.
    """

    def __init__(
        self,
        optimizer: Callable[..., Optimizer],
        lr: float,
        lr_for: int | None,
        layer_decay: float,
        weight_decay: float,
        warmup: float,
        schedule: str,
        power: float,
    ):
        if lr <= 0:
            raise ConfigError(f"{SETTING}.lr={lr}: must be above 0; try 1e-4")
        if lr_for is not None and lr_for < 1:
            raise ConfigError(f"{SETTING}.lr_for={lr_for}: at least one image a step; try 256")
        if not 0 < layer_decay <= 1:
            raise ConfigError(f"{SETTING}.layer_decay={layer_decay}: above 0, up to 1; try 1, no decay")
        if weight_decay < 0:
            raise ConfigError(f"{SETTING}.weight_decay={weight_decay}: must be 0 or more; try 0")
        if not 0 <= warmup <= 1:
            raise ConfigError(f"{SETTING}.warmup={warmup}: 0..1; try {min(max(warmup, 0), 1)}")
        if schedule not in SCHEDULES:
            raise ConfigError(f"{SETTING}.schedule={schedule}: one of {', '.join(SCHEDULES)}; try poly")
        if power <= 0:
            raise ConfigError(f"{SETTING}.power={power}: must be above 0; try 1")
        self.optimizer, self.lr, self.lr_for = optimizer, lr, lr_for
        self.layer_decay, self.weight_decay = layer_decay, weight_decay
        self.warmup, self.schedule, self.power = warmup, schedule, power

    def __call__(
        self, backbone: Backbone, head: nn.Module, global_batch_size: int, total_steps: int
    ) -> tuple[Any, LambdaLR]:
        """Optimizer of all trainable parameters of both, and its schedule."""
        rate = self.lr if self.lr_for is None else self.lr * global_batch_size / self.lr_for
        groups = self.groups(backbone, rate)
        groups += [{**group, "lr": rate} for group in param_groups_weight_decay(head, self.weight_decay)]
        optimizer = self.optimizer(groups, lr=rate)
        return optimizer, LambdaLR(optimizer, lambda step: self.share(step, total_steps))

    def groups(self, backbone: Backbone, rate: float) -> list[dict[str, Any]]:
        """Parameter groups of a backbone's trainable parameters, each with its rate; the head's is `rate`."""
        exempt = {*POSITION_TABLES, *getattr(backbone.model, "no_weight_decay", set)()}
        groups = param_groups_layer_decay(
            backbone.model, self.weight_decay, exempt, layer_decay=self.layer_decay
        )
        # timm gives its last layer 1, as for a classifier that is part of the model; ours is not. And
        # its lr_scale would be applied by timm's schedulers only.
        return [{**group, "lr": rate * self.layer_decay * group["lr_scale"]} for group in groups]

    def share(self, step: int, total_steps: int) -> float:
        """Share of the full rate at a step, 0..1."""
        warm = self.warmup * total_steps
        if step < warm:
            return step / warm
        left = 1 - min((step - warm) / max(total_steps - warm, 1), 1)
        return left**self.power if self.schedule == "poly" else 0.5 * (1 - math.cos(math.pi * left))
