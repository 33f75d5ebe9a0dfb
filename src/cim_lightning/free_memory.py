"""Memory that this process can still allocate."""

import re
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUPS = Path("/sys/fs/cgroup")  # version 2: the limits of containers and of batch jobs
MEMBERSHIP = Path("/proc/self/cgroup")


def free_memory() -> int | None:
    """Return the bytes of memory and swap that are free, within the limits of the container and the job.

    None: the system does not say.
    """
    limits = [bytes_ for bytes_ in (_of_machine(), *map(_of_group, _groups())) if bytes_ is not None]
    return min(limits, default=None)


def _of_machine() -> int | None:
    if not MEMINFO.exists():
        return None
    text = MEMINFO.read_text()
    found = (re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE) for name in ("MemAvailable", "SwapFree"))
    return 1024 * sum(int(match[1]) for match in found if match)


def _groups() -> list[Path]:
    """Return the folders of the control group of this process and of the groups around it."""
    text = MEMBERSHIP.read_text() if MEMBERSHIP.exists() else ""
    found = re.search(r"^0::/(.*)$", text, re.MULTILINE)  # a container sees its own group as "/"
    group = CGROUPS / (found[1] if found else "")
    return [group, *(parent for parent in group.parents if parent.is_relative_to(CGROUPS))]


def _of_group(group: Path) -> int | None:
    """Return what is left of the limit of a control group; None: it has none."""
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        stat = (group / "memory.stat").read_text()
    except OSError:
        return None
    if limit == "max":
        return None
    cached = re.search(r"^inactive_file (\d+)", stat, re.MULTILINE)  # files, which are dropped if needed
    return max(int(limit) - used + int(cached[1] if cached else 0), 0)
