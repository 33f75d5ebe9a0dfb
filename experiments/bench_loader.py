"""Time of making views of images: from the bytes of JPEG files, and from decoded images in shared memory.

The floor of a photograph is decoding by simplejpeg, without a crop. The variant "Pillow" is what this project
did before: it decodes and resizes by Pillow, and stacks copies of the views. The time of small images is
compared with that of a training step of `experiment=cifar10_cpu`.
"""

import argparse
import io
from collections.abc import Callable, Sequence

import numpy as np
import simplejpeg
import torch
from bench.command_line import main
from bench.interleave import interleave, speedup
from bench.ledger import Claim, Entry, Report, merge
from bench.photographs import photographs
from bench.training import train
from PIL import Image, ImageOps
from torchvision.transforms import v2

from cim_lightning.data.decode import to_rgb
from cim_lightning.data.image_cache import ImageCache
from cim_lightning.data.pixel_format import RGB8
from cim_lightning.data.view_dataset import RandomResizedCropFlip, ViewDataset

SCALE, RATIO = (0.5, 1.0), (3 / 4, 4 / 3)
BICUBIC = Image.Resampling.BICUBIC
PILLOW, V2, DECODING = "Pillow", "torchvision v2 on Pillow", "simplejpeg, decoding only"
OURS, CACHED, FILES = "ours", "ours, data.cache=ram", "ours, PNG files in memory"
PHOTOS, SMALL = "view of 224 pixels from a JPEG photograph", "view of 32 pixels"


class EncodedImages:
    """A Source of files whose bytes are in memory."""

    classes = None

    def __init__(self, files: Sequence[bytes]):
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int):
        return RGB8.decode(self.files[index]), 0


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def pillow_batch(files: Sequence[bytes], view: RandomResizedCropFlip) -> torch.Tensor:
    """Return views as before: decoded, resized and flipped by Pillow, then copied and stacked."""
    views = []
    for index, data in enumerate(files):
        rng = np.random.default_rng(np.random.SeedSequence((0, 0, index)))
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            rgb = to_rgb(image)
        resized = rgb.resize((view.size, view.size), BICUBIC, box=view.sample(*rgb.size, rng))
        if rng.random() < view.flip:
            resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        views.append(torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1))
    return torch.stack(views)


def torchvision_batch(files: Sequence[bytes], transform: Callable) -> torch.Tensor:
    return torch.stack([transform(Image.open(io.BytesIO(data)).convert("RGB")) for data in files])


def torchvision_views(size: int) -> Callable:
    resized = v2.RandomResizedCrop(size, SCALE, RATIO, v2.InterpolationMode.BICUBIC, antialias=True)
    return v2.Compose([resized, v2.RandomHorizontalFlip(), v2.PILToTensor()])


def measure_photographs(args: argparse.Namespace) -> Report:
    files = photographs(args.data, 4 if args.smoke else 24)
    view, keys = RandomResizedCropFlip(224, SCALE, RATIO, 0.5), [(0, index) for index in range(len(files))]
    dataset, transform = ViewDataset(EncodedImages(files), view, 0), torchvision_views(224)
    works = {
        DECODING: lambda: [simplejpeg.decode_jpeg(data, "RGB") for data in files],
        V2: lambda: torchvision_batch(files, transform),
        PILLOW: lambda: pillow_batch(files, view),
        OURS: lambda: dataset.__getitems__(keys),
    }
    timings = interleave(works, args.rounds)
    floor = timings[DECODING].cpu.median / len(files)
    entries = [
        Entry(PHOTOS, name, timing, len(files), "image", V2, floor) for name, timing in timings.items()
    ]
    gain, share = speedup(timings[V2], timings[OURS]), speedup(timings[DECODING], timings[OURS])
    compared = photographs(args.data, 4 if args.smoke else 200)
    same = [
        np.array_equal(RGB8.decode(data), Image.open(io.BytesIO(data)).convert("RGB")) for data in compared
    ]
    claims = [
        Claim("bytes to view, against torchvision v2 on Pillow", gain, "at least", 1.7, "x", 1.8),
        Claim("bytes to view, against decoding by simplejpeg alone", share, "at least", 0.58, "x", 0.62),
        Claim(
            "decoded images with the pixels of Pillow", 100 * float(np.mean(same)), "at least", 100, "%", 100
        ),
    ]
    return Report(entries, claims)


def measure_small(args: argparse.Namespace) -> Report:
    rng, count = np.random.default_rng(0), 16 if args.smoke else 256
    images = [Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)) for _ in range(count)]
    source = EncodedImages([png(image) for image in images])
    view, keys = RandomResizedCropFlip(32, SCALE, RATIO, 0.5), [(0, index) for index in range(count)]
    cached = ViewDataset(source, view, 0, cache=ImageCache(count, count * 3072, 3, np.uint8))
    plain, transform = ViewDataset(source, view, 0), torchvision_views(32)
    assert torch.equal(cached.__getitems__(keys).views, plain.__getitems__(keys).views)
    works = {
        "torchvision v2 on Pillow's images": lambda: torch.stack([transform(image) for image in images]),
        FILES: lambda: plain.__getitems__(keys),
        CACHED: lambda: cached.__getitems__(keys),
    }
    timings = interleave(works, args.rounds, repeats=1 if args.smoke else 4)
    entries = [Entry(SMALL, name, timing, count, "image", FILES) for name, timing in timings.items()]
    return Report(entries, [share_of_a_step(args, timings[CACHED].cpu.median / count)])


def share_of_a_step(args: argparse.Namespace, milliseconds: float) -> Claim:
    """Compare the time of a view with that of an image's training, on one core."""
    share = None
    if not args.smoke:
        settings = ["experiment=cifar10_cpu", "data=synthetic", "data.source.image_size=32"]
        steps = train(*settings, device="cpu", rounds=args.rounds, steps=3, warmup=3)
        share = 100 * milliseconds * steps.batch_size / steps.timing.cpu.median
    return Claim("views with data.cache=ram, share of a step's time", share, "at most", 1, "%", 1)


def measure(args: argparse.Namespace) -> Report:
    return merge([measure_photographs(args), measure_small(args)])


if __name__ == "__main__":
    main("loader", measure, __doc__)
