"""The most memory in use since some moment: of the GPU where there is one, else of this process."""

import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FORGET_PEAK = "5"  # what Linux wants written there


def reset_peak(device: torch.device) -> None:
    """Begins anew: jobs of a sweep follow each other in one process, and each wants its own peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif RESET.exists():
        with suppress(OSError):  # not every container allows it; then it is that of the process's whole life
            RESET.write_text(FORGET_PEAK)


def peak(device: torch.device) -> int:
    """Bytes, since reset_peak where the system can tell, else since the process began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.exists():
        lines = (line.partition(":") for line in STATUS.read_text().splitlines())
        known = {name: value.split() for name, _, value in lines}
        if "VmHWM" in known:
            return int(known["VmHWM"][0]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
