"""How the threads of torch wait for each other on a CPU that other processes use, too."""

import os
import re
import sys
import time
from pathlib import Path

CHOSEN_BY_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
STAT = Path("/proc/stat")  # of Linux
BUSY = 0.5  # cores that other processes use


class OtherLoad:
    """Measures how many of the cores of this process others use, from its construction on."""

    def __init__(self) -> None:
        self.start = self._now()

    def cores(self) -> float:
        """Return the mean number of cores; 0 if the system does not say."""
        if self.start is None or (now := self._now()) is None:
            return 0.0
        seconds, busy, own = (after - before for before, after in zip(self.start, now, strict=True))
        return max(busy - own, 0.0) / max(seconds, 1e-3)

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Return the seconds on the clock, of the cores while not idle, and of this process."""
        try:
            cores = re.findall(r"^cpu(\d+) (.+)$", STAT.read_text(), re.MULTILINE)
            own = os.sched_getaffinity(0)  # other cores may be reserved for other jobs
            times = [
                [int(number) for number in numbers.split()] for core, numbers in cores if int(core) in own
            ]
            ticks = sum(
                user + nice + system + irq + soft for user, nice, system, _, _, irq, soft, *_ in times
            )
        except (OSError, ValueError):  # no such file, or another format
            return None
        return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time()


def set_wait_policy(load: OtherLoad) -> None:
    """Let threads sleep while they wait, if other processes use the CPU. Call it before torch is imported.

    Threads of OpenMP spin, which is fastest on a quiet machine. If another process has the core of the thread
    that they wait for, they keep it from running: training was up to 30 times slower. The policy does not
    change any result, which another number of threads would.
    """
    if "torch" in sys.modules or any(name in os.environ for name in CHOSEN_BY_USER):
        return
    if load.cores() > BUSY:
        os.environ["OMP_WAIT_POLICY"] = "passive"
