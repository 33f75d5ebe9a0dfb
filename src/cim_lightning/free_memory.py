"""Memory that this process can still allocate."""

import re
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # version 2: the limit of a container or of a batch job


def free_memory() -> int | None:
    """Return the bytes of memory and swap that are free, within the limit of the container.

    None: the system does not say.
    """
    limits = [bytes_ for bytes_ in (_of_machine(), _of_container()) if bytes_ is not None]
    return min(limits, default=None)


def _of_machine() -> int | None:
    if not MEMINFO.exists():
        return None
    text = MEMINFO.read_text()
    found = (re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE) for name in ("MemAvailable", "SwapFree"))
    return 1024 * sum(int(match[1]) for match in found if match)


def _of_container() -> int | None:
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        stat = (CGROUP / "memory.stat").read_text()
    except OSError:
        return None
    if limit == "max":
        return None
    cached = re.search(r"^inactive_file (\d+)", stat, re.MULTILINE)  # files, which are dropped if needed
    return max(int(limit) - used + int(cached[1] if cached else 0), 0)
