"""AdamW with a learning rate scaled by the batch size, linear warm-up and cosine decay."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from timm.optim import param_groups_weight_decay
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from cim_lightning.checks import check_above, check_at_least, check_share
from cim_lightning.errors import ConfigError

POSITION_TABLES = ("*pos_embed", "*relative_position_bias_table")
REFERENCE_BATCH_SIZE = 256  # images per step for which base_lr is the learning rate


@dataclass
class AdamWCosine:
    """Builds the optimizer and the schedule of a method."""

    base_lr: float  # learning rate for 256 images per step; scaled linearly with the global batch size
    weight_decay: float  # not for biases, norms and position tables
    betas: Sequence[float]  # see torch.optim.AdamW
    warmup: float  # share of the steps, 0..1, in which the learning rate rises linearly from 0

    def __post_init__(self) -> None:
        check_above("base_lr", self.base_lr, 0, suggest=1.5e-4)
        check_at_least("weight_decay", self.weight_decay, 0)
        check_share("warmup", self.warmup)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError("betas", self.betas, "must be two numbers, 0 <= beta < 1", suggest=[0.9, 0.95])

    def __call__(self, module: nn.Module, global_batch_size: int, total_steps: int) -> tuple[AdamW, LambdaLR]:
        """Return the optimizer of all trainable parameters of a module, and its schedule per step."""
        groups = param_groups_weight_decay(module, self.weight_decay, no_weight_decay_list=POSITION_TABLES)
        lr = self.base_lr * global_batch_size / REFERENCE_BATCH_SIZE
        optimizer = AdamW(groups, lr=lr, betas=(self.betas[0], self.betas[1]))
        return optimizer, LambdaLR(optimizer, lambda step: lr_factor(step, total_steps, self.warmup))


def lr_factor(step: int, total_steps: int, warmup: float, schedule: str = "cosine") -> float:
    """Return the factor of the learning rate at a step: a linear warm-up, then a decay to 0.

    Args:
        step, total_steps: in optimizer steps; the first step is 0.
        warmup: share of the steps, 0..1, that the warm-up takes.
        schedule: "cosine" or "linear" decay.
    """
    warmup_steps = warmup * total_steps
    if step < warmup_steps:
        return step / warmup_steps
    progress = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1)
    return 1 - progress if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
