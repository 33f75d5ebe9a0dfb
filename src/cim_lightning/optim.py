"""AdamW with a batch-scaled learning rate, linear warm-up and a cosine to zero, a step at a time."""

import math
from collections.abc import Sequence

from timm.optim import param_groups_weight_decay
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from cim_lightning.errors import ConfigError

POSITION_TABLES = ("*pos_embed", "*relative_position_bias_table")
REFERENCE_BATCH = 256  # base learning rates are quoted for this many images a step


class AdamWCosine:
    """How a method is optimized; configured once, applied when the length of training is known.

    Args:
        base_lr: learning rate of 256 images a step; scaled linearly with images a step over all devices
            and accumulated batches.
        weight_decay: none on biases, norms and position tables, whatever this says.
        betas: AdamW's.
        warmup: share of the steps, 0..1, in which the rate rises linearly from 0.
    """

    def __init__(self, base_lr: float, weight_decay: float, betas: Sequence[float], warmup: float):
        if not 0 <= warmup <= 1:
            raise ConfigError(
                f"optim.warmup={warmup}: a share of training, 0..1; try {min(max(warmup, 0), 1)}"
            )
        if base_lr <= 0:
            raise ConfigError(f"optim.base_lr={base_lr}: must be above 0; try 1.5e-4, the paper's")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ConfigError(
                f"optim.betas={list(betas)}: two numbers from 0 to below 1; try [0.9, 0.95], the paper's"
            )
        if weight_decay < 0:
            raise ConfigError(f"optim.weight_decay={weight_decay}: must be 0 or more; try 0")
        self.base_lr, self.weight_decay, self.betas, self.warmup = base_lr, weight_decay, betas, warmup

    def __call__(self, module: nn.Module, global_batch_size: int, total_steps: int) -> tuple[AdamW, LambdaLR]:
        """Optimizer of all trainable parameters of a module, and its schedule."""
        groups = param_groups_weight_decay(module, self.weight_decay, no_weight_decay_list=POSITION_TABLES)
        rate = self.base_lr * global_batch_size / REFERENCE_BATCH
        optimizer = AdamW(groups, lr=rate, betas=(self.betas[0], self.betas[1]))
        return optimizer, LambdaLR(optimizer, lambda step: self.share(step, total_steps))

    def share(self, step: int, total_steps: int) -> float:
        """Share of the full rate at a step, 0..1."""
        return lr_factor(step, total_steps, self.warmup)


def lr_factor(step: int, total_steps: int, warmup: float, schedule: str = "cosine") -> float:
    """Return the factor of the learning rate at a step: a linear warm-up, then a decay to 0.

    Args:
        step, total_steps: optimizer steps, from 0.
        warmup: share of the steps, 0..1, that the warm-up takes.
        schedule: "cosine" or "linear" decay.
    """
    warmup_steps = warmup * total_steps
    if step < warmup_steps:
        return step / warmup_steps
    done = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1)
    return 1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
