"""A few real training steps: data types, gradients, time and memory."""

import resource
import sys
import time
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from cim_lightning.cropping.batch import num_images
from cim_lightning.doctor.finding import Finding
from cim_lightning.doctor.parameters import shorten

STEPS = 4  # the first ones are slower


class Trial(L.Callback):
    """Record what happens in the steps of a training, without changing them."""

    def __init__(self) -> None:
        self.dtypes: dict[str, set[str]] = {}  # of the outputs of all modules, by name of the part
        self.norms: list[Tensor] = []  # of the gradient, before clipping
        self.without_gradient: set[str] = set()
        self.with_gradient: set[str] = set()
        self.seconds: list[float] = []
        self.images = 0  # per step
        self.step_bytes = 0  # peak memory of the device, or of the process on a CPU
        self._started = 0.0
        self._hooks: list[Any] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for name, part in pl_module.named_children():
            for module in part.modules():
                hook = module.register_forward_hook(lambda *args, name=name: self._record(name, args[-1]))
                self._hooks.append(hook)
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        _synchronize(pl_module.device)
        self._started, self.images = time.perf_counter(), num_images(batch)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        gradients = {n: p.grad for n, p in pl_module.named_parameters() if p.requires_grad}
        self.with_gradient |= {name for name, gradient in gradients.items() if gradient is not None}
        self.without_gradient |= {name for name, gradient in gradients.items() if gradient is None}
        present = [gradient for gradient in gradients.values() if gradient is not None]
        self.norms.append(torch.nn.utils.get_total_norm(present).detach())

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
        _synchronize(pl_module.device)
        self.seconds.append(time.perf_counter() - self._started)
        self.step_bytes = _peak_bytes(pl_module.device)
        while self._hooks:  # they would slow the next steps
            self._hooks.pop().remove()

    def images_per_s(self, data: Any, device: torch.device) -> float:
        """Return the speed of the fastest step with its cropping, in images of one device."""
        return self.images / (min(self.seconds) + cropping_seconds(data, self.images, device))

    def _record(self, name: str, outputs: Any) -> None:
        tensor = _first_float(outputs)
        if tensor is not None:
            self.dtypes.setdefault(name, set()).add(str(tensor.dtype).removeprefix("torch."))


def cropping_seconds(data: Any, images: int, device: torch.device) -> float:
    """Return the shortest time in which the cropping of an ImageData crops a batch of black views."""
    shape = (images, data.pixels.channels, data.view.size, data.view.size)
    views, seconds = torch.zeros(shape, dtype=data.pixels.torch_dtype, device=device), []
    for _ in range(STEPS):
        started = time.perf_counter()
        data.cropping(views, 0)
        _synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def trial_findings(trial: Trial, method: nn.Module, clip: float | None) -> list[Finding]:
    """Return the data types of the parts, parameters without gradient, and whether clipping happens.

    Args:
        trial: after its steps.
        method: that was trained.
        clip: largest norm of the gradient; None: no clipping.
    """
    weights = {str(p.dtype).removeprefix("torch.") for p in method.parameters()}
    parts = [f"{part} {' and '.join(sorted(dtypes))}" for part, dtypes in trial.dtypes.items()]
    findings = [
        Finding("data type of weights", ", ".join(sorted(weights))),
        Finding("data type of outputs", ", ".join(parts)),
    ]
    unused = sorted(trial.without_gradient - trial.with_gradient)
    problem = "trainable, but the loss does not depend on them" if unused else ""
    findings.append(Finding("without gradient", shorten(unused) if unused else "none", problem))
    norms = [float(norm) for norm in trial.norms]
    shown = ", ".join(f"{norm:.3g}" for norm in norms)
    if clip is None:
        text = f"{shown} in the first steps; no clipping"
    else:
        above = sum(norm > clip for norm in norms)
        text = f"{shown}; clipped to {clip:.3g} in {above} of the first {len(norms)} steps"
    finite = all(norm < float("inf") for norm in norms)
    return [*findings, Finding("gradient norm", text, "" if finite else "not finite before training")]


def _first_float(outputs: Any) -> Tensor | None:
    """Return the first tensor of floats in nested outputs."""
    if isinstance(outputs, Tensor):
        return outputs if outputs.is_floating_point() else None
    parts = outputs.values() if isinstance(outputs, dict) else outputs
    if not isinstance(outputs, dict | list | tuple):
        return None
    return next((tensor for part in parts if (tensor := _first_float(part)) is not None), None)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
