"""Contexts, exemplars and correlation maps of the paper, from views of 224 pixels and from JPEG files.

The baselines are the cropper of commit 195ab0e, kornia's own augmentation chain, and a pipeline that crops
image by image with Pillow and torchvision. The floor is the time in which the pixels of the view, context,
exemplars and maps can be copied, at the bandwidth that is measured for copies of 64 MB.

    python experiments/bench_cropping.py             # about a minute
    python experiments/bench_cropping.py --compiled  # and the kernels of the compiled graph, a minute more
"""

import re
from argparse import ArgumentParser, Namespace
from typing import Any

import numpy as np
import torch
from bench import earlier_cropper, per_image_crops
from bench.command_line import main
from bench.interleave import Timing, interleave, speedup
from bench.ledger import Claim, Entry, Report

from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.image_random import ImageRandom, image_seeds

EARLIER, OURS, KORNIA, PER_IMAGE = "commit 195ab0e", "ours", "kornia", "image by image"
VIEW = (224, 224)
NOTES = [
    "A compiled graph is slower than chunks on a CPU (5.2 and 2.3 ms per image), so only GPUs use it.",
    "Both rows of files to crops decode and resize the view with Pillow, which is half of the time of ours.",
    "A blur by banded matrices was slower than the convolution here (0.42 and 0.29 ms per image).",
]


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--compiled", action="store_true", help="count the kernels of the compiled graph")
    parser.add_argument("--images", type=int, default=32, help="images of a batch")


def measure(args: Namespace) -> Report:
    torch.set_num_threads(args.threads)
    count = 2 if args.smoke else args.images
    files, cropper = per_image_crops.jpegs(count), ExemplarCropper()
    views = decode(files)
    params = cropper.sample(VIEW, ImageRandom(image_seeds(0, count)))
    entries, claims = crops(args, cropper, views, params, floor(args))
    for found in (colors(args, cropper, count), from_files(args, cropper, files)):
        entries += found[0]
        claims += found[1]
    if args.compiled:
        claims += kernels(cropper, views)
    return Report(entries, claims, NOTES)


def decode(files: list[bytes]) -> torch.Tensor:
    """Return the views of files."""
    views = np.stack([np.asarray(per_image_crops.view_of(file)) for file in files])
    return torch.from_numpy(views).permute(0, 3, 1, 2).contiguous()


def floor(args: Namespace) -> float:
    """Return the milliseconds in which an image's view is read, and its results are written."""
    source, target = (torch.ones(2**20 if args.smoke else 2**24) for _ in range(2))
    (copy,) = interleave({"copy": lambda: target.copy_(source)}, args.rounds).values()
    per_byte = copy.cpu.median / (2 * source.nbytes)
    return per_byte * (3 * 224**2 + 4 * 3 * 160**2 + 4 * 6 * 3 * 64**2 + 6 * 160**2)


def rows(
    stage: str, timings: dict[str, Timing], count: int, baseline: str, floor: float | None = None
) -> list[Entry]:
    return [
        Entry(stage, name, timing, count, "image", baseline if name != baseline else None, floor)
        for name, timing in timings.items()
    ]


def crops(
    args: Namespace, cropper: ExemplarCropper, views: torch.Tensor, params: Any, floor: float
) -> tuple[list[Entry], list[Claim]]:
    """Compare with the earlier cropper, in time and in values."""
    now, before = cropper.apply(views, params), earlier_cropper.crop(cropper, views, params)
    variants = {
        EARLIER: lambda: earlier_cropper.crop(cropper, views, params),
        OURS: lambda: cropper.apply(views, params),
    }
    timings = interleave(variants, args.rounds)
    pairs = zip((now.context, now.exemplars), before[:2], strict=True)
    difference = max((ours - earlier).abs().max().item() for ours, earlier in pairs)
    wrong = (now.maps != before[2]).sum().item()
    claims = [
        Claim(
            "CPU time, against commit 195ab0e",
            1 / speedup(timings[EARLIER], timings[OURS]),
            "at most",
            0.8,
            "x",
            0.7,
        ),
        Claim("largest difference of a pixel value", difference, "at most", 1e-5, "", 1e-6),
        Claim("different pixels of correlation maps", wrong, "at most", 0, "", 0),
    ]
    return rows("views to crops", timings, len(views), EARLIER, floor), claims


def colors(args: Namespace, cropper: ExemplarCropper, count: int) -> tuple[list[Entry], list[Claim]]:
    """Compare with kornia's own chain of augmentations."""
    import kornia.augmentation as K

    chain = K.AugmentationSequential(
        K.ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((13, 13), (0.1, 2.0), p=0.5),
        K.RandomSolarize(0.0, 0.0, p=0.2),
    )
    exemplars, seeds = torch.rand(6 * count, 3, 64, 64), image_seeds(0, count)
    appearance: Any = cropper.appearance
    ours = lambda: appearance.apply(exemplars, appearance.sample(6, ImageRandom(seeds)))  # noqa: E731
    timings = interleave({KORNIA: lambda: chain(exemplars), OURS: ours}, args.rounds)
    return rows("colors of the exemplars", timings, count, KORNIA), []


def from_files(
    args: Namespace, cropper: ExemplarCropper, files: list[bytes]
) -> tuple[list[Entry], list[Claim]]:
    """Compare with the pipeline that crops image by image. Both decode with Pillow."""
    some, sampler = files[:4], cropper.boxes

    def by_image() -> None:
        for i, file in enumerate(some):
            per_image_crops.crop(file, sampler.sample(6, VIEW, ImageRandom(image_seeds(i, 1))))

    timings = interleave({PER_IMAGE: by_image, OURS: lambda: cropper(decode(some), 0)}, args.rounds)
    gain = speedup(timings[PER_IMAGE], timings[OURS])
    claims = [Claim("file to crops, against image by image", gain, "at least", 5, "x", predicted=8)]
    return rows("files to crops", timings, len(some), PER_IMAGE), claims


def kernels(cropper: ExemplarCropper, views: torch.Tensor) -> list[Claim]:
    """Count the kernels that a step of the compiled graph starts."""
    from torch._inductor import config, metrics
    from torch._inductor.utils import run_and_get_code

    torch._dynamo.reset()
    metrics.reset()
    compiled = torch.compile(cropper._sample_and_apply, fullgraph=True, dynamic=False)
    with config.patch(force_disable_caches=True):
        _, code = run_and_get_code(compiled, views, image_seeds(0, len(views)))
    library = sum(len(re.findall(r"extern_kernels\.\w+\(|= torch\.ops\.aten\.\w+", text)) for text in code)
    claims = [
        Claim(
            "kernels of the compiled graph", metrics.generated_kernel_count + library, "at most", 60, "", 60
        )
    ]
    if metrics.num_bytes_accessed:
        moved = metrics.num_bytes_accessed / len(views) / 1e6
        claims.append(
            Claim("memory traffic of the compiled graph, per image", moved, "at most", 8, "MB", predicted=6)
        )
    return claims


if __name__ == "__main__":
    main("cropping", measure, __doc__ or "", add_arguments)
