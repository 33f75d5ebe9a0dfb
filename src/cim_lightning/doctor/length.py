"""Steps, epochs and learning rates of a training, without starting it."""

from typing import Any, NamedTuple

import lightning as L
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from cim_lightning.doctor.finding import Finding, count
from cim_lightning.optim import LRAndWeightDecay

POINTS = 1000  # steps at which the schedule is evaluated


class Length(NamedTuple):
    """Length of a training in optimizer steps."""

    images_per_step: int  # over all devices and accumulated batches; the last one of an epoch may have fewer
    images_per_epoch: int
    steps: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.images_per_epoch // self.images_per_step)

    @property
    def images(self) -> int:
        epochs, steps = divmod(self.steps, self.steps_per_epoch)
        return epochs * self.images_per_epoch + steps * self.images_per_step


def training_length(data: Any, trainer: L.Trainer) -> Length:
    """Return the length of a training.

    Args:
        data: an ImageData.
        trainer: not started.
    """
    accumulate = trainer.accumulate_grad_batches
    per_step = data.batch_size * accumulate * trainer.world_size
    batches, limit = len(data.splits.train) // per_step * accumulate, trainer.limit_train_batches
    batches = int(batches * limit) if isinstance(limit, float) else min(batches, limit)
    per_epoch = max(batches, 1) * per_step // accumulate
    length, limits = Length(per_step, per_epoch, 0), []
    if trainer.max_steps is not None and trainer.max_steps >= 0:
        limits.append(trainer.max_steps)
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        limits.append(trainer.max_epochs * length.steps_per_epoch)
    return length._replace(steps=min(limits))


def length_findings(length: Length, data: Any, trainer: L.Trainer) -> list[Finding]:
    """Return the size of a step, and the number of steps and images."""
    accumulate, devices = trainer.accumulate_grad_batches, trainer.world_size
    step = f"{length.images_per_step:,} images = {data.batch_size} per batch"
    step += f" x {accumulate} accumulated batches" if accumulate > 1 else ""
    step += f" x {devices} devices" if devices > 1 else " on 1 device"
    epochs = length.steps / length.steps_per_epoch
    left_out = len(data.splits.train) - length.images_per_epoch
    epoch = f"{length.steps_per_epoch:,} steps, {length.images_per_epoch:,} images"
    epoch += f"; {left_out:,} others are left out, other ones in each epoch" if left_out > 0 else ""
    return [
        Finding("optimizer step", step),
        Finding("epoch", epoch),
        Finding("training", f"{length.steps:,} steps, {epochs:.3g} epochs, {count(length.images)} images"),
    ]


def rate_findings(optim: Any, optimizer: Optimizer, schedule: Any, length: Length) -> list[Finding]:
    """Return the learning rate at the start, its highest value and the end, and a changing weight decay.

    Args:
        optim: the settings, see `Optim`.
        optimizer, schedule: built from them.
        length: of the training.
    """
    base = getattr(optim, "base_lr", None)
    peak = max(group["initial_lr"] for group in optimizer.param_groups)
    scaled = f" = base_lr {base:.3g} x {peak / base:.4g}, for {length.images_per_step} images" if base else ""
    findings = [Finding("learning rate", f"{peak:.3g}{scaled}")]
    if isinstance(schedule, LambdaLR):
        every = max(length.steps // POINTS, 1)
        factor = schedule.lr_lambdas[0]
        rates = {step: peak * factor(step) for step in (*range(0, length.steps, every), length.steps - 1)}
        highest = max(rates, key=lambda step: rates[step])
        text = f"{rates[0]:.3g} at step 0, {rates[highest]:.3g} at step {highest:,}"
        findings.append(Finding("schedule", f"{text}, {rates[length.steps - 1]:.3g} at the last step"))
    if isinstance(schedule, LRAndWeightDecay):
        first, last = (schedule.weight_decay(step) for step in (0, length.steps - 1))
        if first != last:
            findings.append(Finding("weight decay", f"{first:.3g} at step 0, {last:.3g} at the last step"))
    return findings
