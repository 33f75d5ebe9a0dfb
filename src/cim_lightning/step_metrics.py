"""Metrics of training steps, which stay on the device until a step is logged."""

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from jaxtyping import Shaped
from torch import Tensor

from cim_lightning.lightning_internals import log_step, logs_step


class StepMetrics:
    """Collects the metrics of each training step, and logs them in those steps that Lightning logs.

    `LightningModule.log` copies each number to the device and waits for it, in every step, also if nothing is
    written. Here, a step that is not logged costs one small copy on the device.
    """

    def __init__(self) -> None:
        # A number, or a tensor of several metrics and the index of this one.
        self._values: dict[str, float | tuple[Shaped[Tensor, " n"], int]] = {}

    def clear(self) -> None:
        """Forget all metrics, at the start of an epoch."""
        self._values.clear()

    def update(self, values: Mapping[str, Tensor | float]) -> None:
        """Replace the values of some metrics.

        Args:
            values: numbers, or tensors with one element each, which are copied.
        """
        by_device: dict[torch.device, list[Tensor]] = {}
        placed: dict[str, Any] = {}  # a number, or the device of a tensor and its index there
        for name, value in values.items():
            if isinstance(value, Tensor):
                group = by_device.setdefault(value.device, [])
                placed[name] = value.device, len(group)
                group.append(value.detach().reshape(()))
            else:
                placed[name] = float(value)
        stacks = {device: torch.stack(group) for device, group in by_device.items()}
        for name, place in placed.items():
            self._values[name] = place if isinstance(place, float) else (stacks[place[0]], place[1])

    def to_host(self) -> dict[str, Shaped[Tensor, ""]]:
        """Return the metrics as tensors on the CPU. This waits for the device."""
        stacks = {id(v[0]): v[0] for v in self._values.values() if isinstance(v, tuple)}
        copied = {key: tensor.cpu().unbind() for key, tensor in stacks.items()}
        return {
            name: copied[id(v[0])][v[1]] if isinstance(v, tuple) else torch.tensor(v)
            for name, v in self._values.items()
        }

    def log(self, module: L.LightningModule) -> None:
        """Log the metrics if Lightning logs this step. Call it in `on_train_batch_end` of the module."""
        if self._values and logs_step(module.trainer):
            log_step(module.trainer, self.to_host())
