"""Peak memory: of the GPU if there is one, else of this process."""

import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # what Linux expects in that file, see proc(5)


def reset_peak(device: torch.device) -> None:
    """Start a new measurement, since several jobs of a sweep may run in one process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif RESET.exists():
        with suppress(OSError):  # some containers do not allow it; the peak then includes earlier jobs
            RESET.write_text(RESET_PEAK)


def peak(device: torch.device) -> int:
    """Return bytes since reset_peak, or since the process started if the system cannot reset."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.exists():
        lines = (line.partition(":") for line in STATUS.read_text().splitlines())
        fields = {name: value.split() for name, _, value in lines}
        if "VmHWM" in fields:
            return int(fields["VmHWM"][0]) * 1024
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return rss if sys.platform == "darwin" else rss * 1024
