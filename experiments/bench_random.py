"""Random numbers of the crops of 512 views with 6 exemplars each: a seed per image, against one generator."""

import argparse

import torch
from bench.command_line import main
from bench.interleave import interleave
from bench.ledger import Entry, Report

from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.image_random import ImageRandom, image_seeds

IMAGES, VIEW = 512, (224, 224)


class OneStream(ImageRandom):
    """The numbers of all images from one generator, in the order of the draws."""

    generator: torch.Generator

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        return low + (high - low) * torch.rand(self.num_images, *shape, generator=self.generator)


def measure(args: argparse.Namespace) -> Report:
    images = 8 if args.smoke else IMAGES
    cropper, seeds = ExemplarCropper(), image_seeds(0, images)
    stream = OneStream(seeds)
    stream.generator = torch.Generator().manual_seed(0)
    works = {
        "a seed per image": lambda: cropper.sample(VIEW, ImageRandom(seeds)),
        "one generator": lambda: cropper.sample(VIEW, stream),
    }
    timings = interleave(works, args.rounds, 1 if args.smoke else 20)
    entries = [
        Entry("parameters of the crops", name, timing, images, "image", "one generator")
        for name, timing in timings.items()
    ]
    return Report(entries)


if __name__ == "__main__":
    main("random", measure, __doc__)
