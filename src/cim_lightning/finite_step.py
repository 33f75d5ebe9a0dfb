"""Optimizer steps that are skipped if the loss or a gradient is not finite, without a synchronization."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

DEVICES = ("cpu", "cuda")  # whose fused optimizers read `found_inf`


class StepResult(NamedTuple):
    """The losses and gradients of an optimizer step. The tensors stay on the device."""

    losses: list[Float[Tensor, ""]]  # of the batches of the step
    parameters: list[nn.Parameter]  # those with a gradient
    norms: Float[Tensor, " p"]  # of their gradients
    norm: Float[Tensor, ""]  # of all gradients, before clipping
    applied: Float[Tensor, ""]  # 1: the step was applied; 0: it was skipped
    lrs: list[float]  # of the parameter groups
    scale: Float[Tensor, ""] | None  # factor of the loss in fp16; None: it is not scaled


class FiniteStep:
    """Skips the optimizer steps of a module whose loss or gradients are not finite.

    A skipped step changes no weight, no state of the optimizer and no buffer of a checkpoint, such as the
    statistics of batch normalization. Other buffers are constants, or training could not resume exactly. With
    several devices, all skip it: `propagate` turns the gradients of a loss that is not finite to NaN, and so
    those of all devices.

    Args:
        module: the module to train.
    """

    def __init__(self, module: nn.Module):
        self.module = module
        self.result: StepResult | None = None  # of the last step
        self._buffers: list[list[Tensor]] | None = None  # by type
        self._saved: list[Num[Tensor, " n"]] | None = None  # before the first batch of the step
        self._losses: list[Float[Tensor, ""]] = []

    def start_batch(self) -> None:
        """Save the buffers before the first forward pass of a step."""
        if self._saved is None:
            if self._buffers is None:
                self._buffers = _by_dtype(self.module)
            self._saved = [_flat(tensors) for tensors in self._buffers]

    def add_loss(self, loss: Float[Tensor, ""]) -> None:
        """Note the loss of a batch."""
        self._losses.append(loss.detach())

    def check(
        self, optimizer: Optimizer, scaler: GradScaler | None = None, accumulate: int = 1
    ) -> StepResult:
        """Measure the gradients, and let the optimizer skip the step if they are not finite.

        The last step of an epoch may have fewer batches than the others. Its gradients become the mean of its
        batches. An optimizer without `found_inf` (see torch.amp.GradScaler) costs a synchronization with the
        device.

        Args:
            optimizer: has the gradients of the step.
            scaler: of fp16 training; its scale is removed from the gradients.
            accumulate: number by which the loss of each batch was divided.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        device, on_device = parameters[0].device, _reads_found_inf(optimizer)
        scale = None
        if scaler is not None:
            scale = scaler.scale(torch.ones((), device=device))
            if on_device:  # Lightning does it for the other optimizers
                scaler.unscale_(optimizer)
        dtype = torch.promote_types(parameters[0].dtype, torch.float32)  # fp16 would overflow
        gradients = [p.grad for p in parameters]
        if 0 < len(self._losses) < accumulate:
            torch._foreach_mul_(gradients, accumulate / len(self._losses))
        norms = torch.stack(torch._foreach_norm(gradients, 2, dtype))
        norm = torch.linalg.vector_norm(norms)
        applied = norm.isfinite().float()
        lrs = [group["lr"] for group in optimizer.param_groups]
        self.result = StepResult(self._losses, parameters, norms, norm, applied, lrs, scale)
        if on_device and device.type in DEVICES:
            optimizer.found_inf = 1 - applied  # pyright: ignore[reportAttributeAccessIssue]
        elif not applied.item():
            for parameter in parameters:
                parameter.grad = None
        return self.result

    @torch.no_grad()
    def finish(self) -> None:
        """Restore the buffers after a skipped step."""
        if self.result is not None and self._buffers is not None and self._saved is not None:
            for tensors, saved in zip(self._buffers, self._saved, strict=True):
                kept = torch.where(self.result.applied > 0, _flat(tensors), saved)
                parts = kept.split([tensor.numel() for tensor in tensors])
                torch._foreach_copy_(tensors, [p.view_as(t) for p, t in zip(parts, tensors, strict=True)])
        self._saved, self._losses = None, []


def propagate(loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Return the loss; if it is not finite, with gradients that are NaN."""
    return loss * (1 + 0 * loss.detach())


def clip_gradients(result: StepResult, value: float | None, algorithm: str | None) -> None:
    """Clip the gradients of a step.

    Args:
        result: of the step.
        value: the largest norm, or the largest value; None or 0: no clipping.
        algorithm: "norm" (default) or "value".
    """
    if not value:
        return
    if algorithm == "value":
        nn.utils.clip_grad_value_(result.parameters, value)
    else:
        nn.utils.clip_grads_with_norm_(result.parameters, value, result.norm)


def _reads_found_inf(optimizer: Optimizer) -> bool:
    return getattr(optimizer, "_step_supports_amp_scaling", False)


def _by_dtype(module: nn.Module) -> list[list[Tensor]]:
    """Return the buffers that checkpoints contain."""
    groups: dict[Any, list[Tensor]] = {}
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if name not in part._non_persistent_buffers_set:
                groups.setdefault(buffer.dtype, []).append(buffer)
    return list(groups.values())


def _flat(tensors: list[Tensor]) -> Num[Tensor, " n"]:
    return torch.cat([tensor.flatten() for tensor in tensors])
