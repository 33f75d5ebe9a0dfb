"""AdamW with a learning rate scaled by the batch size, linear warm-up and cosine decay."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from timm.optim import param_groups_weight_decay
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from cim_lightning.checks import check_above, check_at_least, check_share
from cim_lightning.errors import ConfigError
from cim_lightning.schedule import Schedule

# Maps (module, images per optimizer step, optimizer steps) to an optimizer and its schedule per step.
Optim = Callable[[nn.Module, int, int], tuple[Optimizer, LRScheduler]]

POSITION_TABLES = ("*pos_embed", "*relative_position_bias_table")
REFERENCE_BATCH_SIZE = 256  # images per step for which base_lr is the learning rate


@dataclass(frozen=True)
class AdamWCosine:
    """Builds the optimizer and the schedule of a method. The defaults are the paper's recipe."""

    base_lr: float = 1.5e-4  # learning rate for 256 images per step; scaled with the global batch size
    weight_decay: float = 0.05  # not for biases, norms and position tables
    betas: Sequence[float] = (0.9, 0.95)  # see torch.optim.AdamW
    warmup: float = 40 / 300  # share of the steps, 0..1, in which the learning rate rises linearly from 0
    weight_decay_end: float | None = None  # at the end of a cosine; None: constant weight decay

    def __post_init__(self) -> None:
        check_above("base_lr", self.base_lr, 0, suggest=1.5e-4)
        check_at_least("weight_decay", self.weight_decay, 0)
        check_at_least("weight_decay_end", self.weight_decay_end, 0)
        if self.weight_decay_end is not None:
            # 0 marks the parameters without weight decay.
            check_above("weight_decay", self.weight_decay, 0, suggest=0.05)
        check_share("warmup", self.warmup)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError("betas", self.betas, "must be two numbers, 0 <= beta < 1", suggest=[0.9, 0.95])

    def __call__(self, module: nn.Module, global_batch_size: int, total_steps: int) -> tuple[AdamW, LambdaLR]:
        """Return the optimizer of all trainable parameters of a module, and its schedule per step."""
        groups = param_groups_weight_decay(module, self.weight_decay, no_weight_decay_list=POSITION_TABLES)
        lr = self.base_lr * global_batch_size / REFERENCE_BATCH_SIZE
        # Only the fused implementation can skip a step without waiting for the device (see FiniteStep).
        optimizer = AdamW(groups, lr=lr, betas=(self.betas[0], self.betas[1]), fused=True)
        end = self.weight_decay if self.weight_decay_end is None else self.weight_decay_end
        weight_decay = Schedule(self.weight_decay, end)
        return optimizer, LRAndWeightDecay(
            optimizer,
            lambda step: lr_factor(step, total_steps, self.warmup),
            lambda step: weight_decay(min(step / max(total_steps, 1), 1)),
        )


class LRAndWeightDecay(LambdaLR):
    """Schedule of the learning rate and of the weight decay, per step.

    Args:
        optimizer: parameters without weight decay stay without.
        lr_factor: factor of the learning rate at a step.
        weight_decay: weight decay of the other parameters at a step.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_factor: Callable[[int], float],
        weight_decay: Callable[[int], float],
    ):
        self.weight_decay = weight_decay
        super().__init__(optimizer, lr_factor)

    def step(self, epoch: int | None = None) -> None:
        super().step(epoch)
        for group in self.optimizer.param_groups:
            if group["weight_decay"] > 0:
                group["weight_decay"] = self.weight_decay(self.last_epoch)

    def state_dict(self) -> dict[str, Any]:
        return {key: value for key, value in super().state_dict().items() if key != "weight_decay"}


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
    return Schedule(1, 0, schedule)(progress)
