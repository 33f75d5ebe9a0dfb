"""Rendering of the embedded data set's scenes, compared with decoding the same scenes from JPEG files."""

import argparse
import io
from collections.abc import Callable
from itertools import count

from bench.command_line import main
from bench.interleave import interleave
from bench.ledger import Entry, Report
from PIL import Image

from cim_lightning.data.decode import decode
from cim_lightning.data.synthetic.dataset import SyntheticScenes

SIZES, FILES, BATCH = (32, 64, 128), 100, 20


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def reader(read: Callable[[int], object], images: int) -> Callable[[], None]:
    """Return a function that reads other images in every call."""
    numbers = count()

    def work() -> None:
        for _ in range(images):
            read(next(numbers) % FILES)

    return work


def measure(args: argparse.Namespace) -> Report:
    sizes, images = (SIZES[:1], 2) if args.smoke else (SIZES, BATCH)
    entries = []
    for size in sizes:
        scenes = SyntheticScenes(FILES, size, seed=0)
        files = [jpeg(scenes[i][0]) for i in range(2 if args.smoke else FILES)]
        reads = {
            "rendered": scenes.__getitem__,
            "decoded from JPEG": lambda i, f=files: decode(f[i % len(f)]),
        }
        timings = interleave({name: reader(read, images) for name, read in reads.items()}, args.rounds, 5)
        entries += [
            Entry(f"scenes of {size} pixels", name, timing, images, "image", "decoded from JPEG")
            for name, timing in timings.items()
        ]
    return Report(entries)


if __name__ == "__main__":
    main("scenes", measure, __doc__)
