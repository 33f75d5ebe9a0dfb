"""The machine and the software of a measurement."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cim_lightning.versions import versions

FURTHER = ("torchvision", "pillow", "simplejpeg", "numpy")


def environment() -> dict[str, Any]:
    """Return versions, processor, device, threads of torch and load average.

    torch is not imported: the script that measures start-up must not pay for it.
    """
    torch: Any = sys.modules.get("torch")
    cuda = bool(torch and torch.cuda.is_available())
    return {
        **versions(),
        **{name: _version(name) for name in FURTHER},
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch and cuda else "cpu",
        "threads": torch.get_num_threads() if torch else None,
        "load_average": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
