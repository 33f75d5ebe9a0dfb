"""Peak memory: of the GPU if there is one, else of this process."""

import re
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # see clear_refs in proc(5)


def reset_peak(device: torch.device) -> None:
    """Start a new measurement: several jobs of a sweep may run in one process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif RESET.exists():
        with suppress(OSError):  # not allowed in some containers; the peak then includes earlier jobs
            RESET.write_text(RESET_PEAK)


def peak(device: torch.device) -> int:
    """Return the peak in bytes since reset_peak, or since the process started if it cannot be reset."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.exists() and (match := re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())):
        return int(match[1]) * 1024
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return rss if sys.platform == "darwin" else rss * 1024
