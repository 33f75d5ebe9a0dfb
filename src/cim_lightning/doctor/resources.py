"""Time, memory and disk that a training will need."""

import shutil
from pathlib import Path

import torch
from torch import nn

from cim_lightning.config.machine import format_bytes, memory_bytes
from cim_lightning.doctor.finding import Finding, count
from cim_lightning.doctor.length import Length


def time_findings(loader: float, step: float, devices: int, length: Length, where: str) -> list[Finding]:
    """Return the rates of loading and of training, which of them limits, and the time of the training.

    Args:
        loader, step: images per second of one device.
        devices: number of devices.
        length: of the training.
        where: device, and what was measured.
    """
    slower = min(loader, step)
    seconds = length.images / (slower * devices)
    if loader < step:
        limit = f"the data, {step / loader:.2g}x slower than the steps; more workers, or smaller files, help"
    else:
        limit = f"the steps; the workers could deliver {loader / step:.2g}x as many images"
    return [
        Finding("workers", count(loader, "images/s per device")),
        Finding("steps", count(step, f"images/s per device ({where})")),
        Finding("limit", limit),
        Finding("time", f"{duration(seconds)} for {length.images:,} images, without validation"),
    ]


def memory_findings(method: nn.Module, checkpoint: int, peak: int, total: int, where: str) -> list[Finding]:
    """Return the memory of weights and optimizer, and the measured peak.

    Args:
        method: that is trained.
        checkpoint: bytes of its state and that of its optimizer.
        peak: measured in the trial, in bytes.
        total: memory of the device, in bytes.
        where: device, and what was measured.
    """
    weights = sum(tensor.nbytes for tensor in method.state_dict().values())
    gradients = sum(weight.nbytes for weight in method.parameters() if weight.requires_grad)
    parts = {"weights": weights, "gradients": gradients, "optimizer": checkpoint - weights}
    text = ", ".join(f"{format_bytes(size)} {name}" for name, size in parts.items())
    problem = "no memory is left" if peak > total else ""
    return [
        Finding("weights and optimizer", text),
        Finding("peak memory", f"{format_bytes(peak)} of {format_bytes(total)} ({where})", problem),
    ]


def disk_findings(checkpoint: int, files: int, folder: Path) -> list[Finding]:
    """Return the disk space that the checkpoints need, and what is free.

    Args:
        checkpoint: bytes of one.
        files: number of checkpoints.
        folder: of the run, which need not exist.
    """
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    needed = files * checkpoint
    problem = "" if needed < free else f"{format_bytes(needed - free)} more are needed"
    text = f"{files} checkpoints of {format_bytes(checkpoint)}; {format_bytes(free)} are free in {existing}"
    return [Finding("disk", text, problem)]


def duration(seconds: float) -> str:
    """Return a time as text, in the unit that fits."""
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.2g} s"


def total_memory(device: torch.device) -> int:
    """Return the memory of a device in bytes."""
    on_gpu = device.type == "cuda"
    return torch.cuda.get_device_properties(device).total_memory if on_gpu else memory_bytes()
