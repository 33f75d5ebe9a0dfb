"""Timing of variants in random order, so that a change of the machine's load affects all of them alike."""

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Samples:
    """Milliseconds per call, one value per round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and third quartile; equal to the value if there is one."""
        if len(self.values) == 1:
            return self.values[0], self.values[0]
        first, _, third = statistics.quantiles(self.values, n=4, method="inclusive")
        return first, third


@dataclass(frozen=True)
class Timing:
    """Processor time and wall time of one variant."""

    cpu: Samples  # of this process, all threads
    wall: Samples


@dataclass
class Stopwatch:
    """Collects the times of one variant."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def measure(
        self,
        work: Callable[[], object],
        repeats: int,
        synchronize: Callable[[], object],
        cpu_clock: Callable[[], float],
    ) -> None:
        synchronize()
        cpu, wall = cpu_clock(), time.perf_counter()
        for _ in range(repeats):
            work()
        synchronize()
        self.cpu.append(1000 * (cpu_clock() - cpu) / repeats)
        self.wall.append(1000 * (time.perf_counter() - wall) / repeats)


def interleave(
    variants: Mapping[str, Callable[[], object]],
    rounds: int = 9,
    repeats: int = 1,
    warmup: int = 1,
    synchronize: Callable[[], object] = lambda: None,
    cpu_clock: Callable[[], float] = lambda: time.process_time(),
) -> dict[str, Timing]:
    """Run every variant in every round, in random order, and return the time per call.

    Args:
        variants: by name; what they return is ignored.
        rounds: samples per variant.
        repeats: calls per sample, for calls that are shorter than the resolution of the clocks.
        warmup: calls of each variant before the first round, which are not measured.
        synchronize: waits for the device, such as torch.cuda.synchronize.
        cpu_clock: seconds of processor time; by default those of this process, without its children.
    """
    order = random.Random(0)
    names = list(variants)
    for name in names * warmup:
        variants[name]()
    watches = {name: Stopwatch() for name in names}
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()  # a collection would be charged to the variant in which it happens
    try:
        for _ in range(rounds):
            for name in order.sample(names, len(names)):
                watches[name].measure(variants[name], repeats, synchronize, cpu_clock)
            gc.collect()
    finally:
        if enabled:
            gc.enable()
    return {name: Timing(Samples(tuple(w.cpu)), Samples(tuple(w.wall))) for name, w in watches.items()}


def speedup(baseline: Timing, variant: Timing, clock: str = "cpu") -> float:
    """Return how many times faster the variant is: the median over rounds of baseline / variant.

    Args:
        baseline: measured by the same call of interleave.
        clock: "cpu" or "wall".
    """
    before, after = getattr(baseline, clock).values, getattr(variant, clock).values
    return statistics.median(b / max(a, 1e-9) for b, a in zip(before, after, strict=True))
