"""Cost of random numbers per image: `python experiments/bench_random.py`, on one core.

It samples the crops of 512 images with 6 exemplars each, from a seed per image and from one generator of
torch, in turns, and then crops them once.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.image_random import ImageRandom, image_seeds

IMAGES, VIEW, RUNS, REPEATS = 512, (224, 224), 5, 20


class OneStream(ImageRandom):
    """The numbers of all images from one generator, in the order of the draws."""

    generator: torch.Generator

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        return low + (high - low) * torch.rand(self.num_images, *shape, generator=self.generator)


def milliseconds(function: Callable[[], Any], repeats: int) -> float:
    """Return the processor time of one call."""
    start = time.process_time()
    for _ in range(repeats):
        function()
    return (time.process_time() - start) / repeats * 1000


def main() -> None:
    torch.set_num_threads(1)
    cropper, seeds = ExemplarCropper(), image_seeds(0, IMAGES)
    stream = OneStream(seeds)
    stream.generator = torch.Generator().manual_seed(0)
    ways = {
        "a seed per image": lambda: cropper.sample(VIEW, ImageRandom(seeds)),
        "one generator": lambda: cropper.sample(VIEW, stream),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(RUNS):
        for name, sample in ways.items():
            times[name].append(milliseconds(sample, REPEATS))
    views = torch.randint(0, 256, (IMAGES, 3, *VIEW), dtype=torch.uint8)
    params = cropper.sample(VIEW, ImageRandom(seeds))
    times["crop and recolor"] = [milliseconds(lambda: cropper.apply(views, params), 1) for _ in range(RUNS)]
    for name, values in times.items():
        print(f"{name}: {statistics.median(values):.2f} ms ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
