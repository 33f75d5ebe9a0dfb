"""DINO: Caron, Touvron, Misra, Jégou, Mairal, Bojanowski, Joulin, ICCV 2021, arXiv 2104.14294.

Published: ViT-S/16, 800 epochs on ImageNet-1k, 74.5 top-1 by k-NN, 77.0 by a linear probe.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cim_lightning.cropping.multi_crop import MultiCrops
from cim_lightning.errors import ConfigError
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.dino_head import DINOHead
from cim_lightning.models.target import EmaTarget


class DINO(Method):
    """Learns by giving every crop of an image the prototypes that the target sees in another, large one.

    What comes of it is the target's backbone, of which the published numbers are.

    Args:
        backbone: the online encoder.
        target: builds the other encoder, and the other head, around the online ones.
        head: builds the scores against prototypes from the backbone's width.
        optim: see Method.
        temperature: of the online softmax.
        target_temperature: of the target's, at the start and after its warm-up.
        temperature_warmup: share of training, 0..1, over which it rises linearly.
        center_momentum: of the running mean that is taken off the target's scores, 0..1.
        freeze_last_layer: share of training, 0..1, in which the prototypes do not learn.
        weight_decay_end: what weight decay rises to by a cosine; None keeps the optimizer's.
    """

    batch_type = MultiCrops
    center: Tensor
    progress: Tensor

    def __init__(
        self,
        backbone: Backbone,
        target: Callable[[torch.nn.Module], Any],
        head: Callable[[int], DINOHead],
        optim: Callable[..., Any],
        temperature: float,
        target_temperature: Sequence[float],
        temperature_warmup: float,
        center_momentum: float,
        freeze_last_layer: float,
        weight_decay_end: float | None,
    ):
        super().__init__(backbone, optim)
        _check_temperatures(temperature, target_temperature)
        shares = {"temperature_warmup": temperature_warmup, "center_momentum": center_momentum}
        for name, value in (shares | {"freeze_last_layer": freeze_last_layer}).items():
            if not 0 <= value <= 1:
                raise ConfigError(f"method.{name}={value}: must be in 0..1; try {min(max(value, 0), 1)}")
        self.head = head(backbone.dim)
        self.target = target(backbone)
        self.head_target = target(self.head)
        self.temperature, self.target_temperature = temperature, target_temperature
        self.temperature_warmup, self.freeze_last_layer = temperature_warmup, freeze_last_layer
        self.center_momentum, self.weight_decay_end = center_momentum, weight_decay_end
        self.register_buffer("center", torch.zeros(len(self.head.prototypes)))
        self.register_buffer("progress", torch.zeros(()))  # kept with the weights for a resumed run

    @property
    def eval_backbone(self) -> Backbone:
        followed: Any = self.target.network if isinstance(self.target, EmaTarget) else self.backbone
        return followed

    def compute_losses(self, crops: MultiCrops) -> dict[str, Tensor]:
        large = torch.cat((crops.first, crops.second))
        with torch.no_grad():
            targets = self.head_target(self.head, self.target(self.backbone, large).pooled).float()
        said = [*self.head(self.backbone(large).pooled).float().chunk(2)]
        if crops.small is not None:
            small = self.head(self.backbone(crops.small.flatten(0, 1)).pooled).float()
            said += small.unflatten(0, crops.small.shape[:2]).unbind(dim=1)
        wanted = ((targets - self.center) / self.target_temp).softmax(dim=-1)
        pairs = [
            self.cross_entropy(one, other)
            for i, one in enumerate(wanted.chunk(2))
            for j, other in enumerate(said)
            if i != j
        ]
        if self.training:
            self._recenter(targets)
        entropy = torch.special.entr(wanted).sum(dim=-1).mean()  # 0: one prototype; log out: all alike
        mean = torch.special.entr(wanted.mean(dim=0)).sum()  # 0: the same one for every image
        return {
            "loss": torch.stack(pairs).mean(),
            "target_entropy": entropy,
            "target_perplexity": mean.exp(),
        }

    def cross_entropy(self, wanted: Float[Tensor, "b out"], scores: Float[Tensor, "b out"]) -> Tensor:
        """Of the online softmax of some scores under the wanted distribution, in nats an image."""
        return -(wanted * F.log_softmax(scores / self.temperature, dim=-1)).sum(dim=-1).mean()

    @property
    def target_temp(self) -> Tensor:
        """The target's temperature at this point of training."""
        first, last = self.target_temperature
        return first + (last - first) * (self.progress / max(self.temperature_warmup, 1e-12)).clamp(max=1)

    def target_pairs(self) -> list[tuple[Any, torch.nn.Module]]:
        return [(self.target, self.backbone), (self.head_target, self.head)]

    def update_target(self, progress: float) -> None:
        super().update_target(progress)
        self.progress.fill_(progress)
        self._update_weight_decay(progress)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        if self.trainer.global_step / self.trainer.estimated_stepping_batches < self.freeze_last_layer:
            self.head.prototypes.grad = None  # and so no decay, and no step that Adam would count

    def _update_weight_decay(self, progress: float) -> None:
        """Moves weight decay, where there is some, along half a cosine."""
        for group in self.trainer.optimizers[0].param_groups:
            if self.weight_decay_end is not None and group["weight_decay"] > 0:
                start = group.setdefault("weight_decay_start", group["weight_decay"])
                share = (1 - math.cos(math.pi * progress)) / 2
                group["weight_decay"] = start + (self.weight_decay_end - start) * share

    @torch.no_grad()
    def _recenter(self, targets: Float[Tensor, "n out"]) -> None:
        mean = targets.mean(dim=0)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(mean)
            mean /= torch.distributed.get_world_size()
        self.center.lerp_(mean, 1 - self.center_momentum)


def _check_temperatures(online: float, target: Sequence[float]) -> None:
    if online <= 0:
        raise ConfigError(f"method.temperature={online}: must be above 0; try 0.1")
    if len(target) != 2 or min(target) <= 0:
        raise ConfigError(f"method.target_temperature={list(target)}: two numbers above 0; try [0.04, 0.07]")
