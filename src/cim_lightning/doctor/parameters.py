"""Parameters of a method: groups of the optimizer, frozen parameters, targets, and loaded weights."""

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from cim_lightning.doctor.finding import Finding, count
from cim_lightning.schedule import Schedule

SHOWN = 3  # names in a row


def group_findings(method: nn.Module, optimizer: Optimizer) -> list[Finding]:
    """Return one row per group of the optimizer, and the frozen parameters.

    A trainable parameter that no group has is a problem: nothing would train it.
    """
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    findings, grouped = [], set()
    for number, group in enumerate(optimizer.param_groups):
        members = group["params"]
        grouped |= {id(parameter) for parameter in members}
        size = count(sum(parameter.numel() for parameter in members), "parameters")
        rates = f"lr {group['initial_lr']:.3g}, decay {group['weight_decay']:.3g}"
        text = f"{size} in {len(members)} tensors, {rates}"
        shown = shorten(names.get(id(parameter), "?") for parameter in members)
        findings.append(Finding(f"group {number}", f"{text}: {shown}"))
    missing = [n for n, p in method.named_parameters() if p.requires_grad and id(p) not in grouped]
    if missing:
        reason = "trainable, but in no group of the optimizer"
        findings.append(Finding("not optimized", f"{len(missing)} tensors: {shorten(missing)}", reason))
    frozen = [(name, p) for name, p in method.named_parameters() if not p.requires_grad]
    if frozen:
        size = count(sum(parameter.numel() for _, parameter in frozen), "parameters")
        findings.append(Finding("frozen", f"{size}: {shorten(name for name, _ in frozen)}"))
    return findings


def target_findings(method: Any, steps: int) -> list[Finding]:
    """Return the momentum of each EMA target after the first step, in the middle and at the end."""
    names = {id(module): name for name, module in method.named_modules()}
    findings = []
    for target, _ in method.target_pairs():
        momentum = getattr(target, "momentum", None)
        if isinstance(momentum, Schedule):
            points = {"after step 1": 1 / steps, "in the middle": 0.5, "at the end": 1.0}
            text = ", ".join(f"{float(momentum(at)):.6g} {when}" for when, at in points.items())
            findings.append(Finding(f"momentum of {names.get(id(target), 'target')}", text))
    return findings


def weight_findings(backbone: Any) -> list[Finding]:
    """Return where the weights of the backbone come from. Those that do not match are refused earlier."""
    loaded = backbone.loaded_weights
    return [Finding("weights", str(loaded) if loaded else "random initialization")]


def shorten(names: Iterable[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    names = list(names)
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
