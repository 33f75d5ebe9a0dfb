"""Images per second and core from full-size files and from the archives of `cim-prepare archives`.

`python experiments/bench_archives.py --data FOLDER` takes at most 200 photographs of a folder. Without one,
it makes photographs of noise. Everything is in memory. A view is a random-resized crop of 224 pixels.
*PSNR* is the median over views from archives, against the same views of the full-size files, and against
those of raw archives, which have the same resolution.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench.command_line import main
from bench.interleave import interleave, speedup
from bench.ledger import Claim, Entry, Report
from bench.photographs import photographs
from PIL import Image

from cim_lightning.data.archive_folder import ArchiveFolder
from cim_lightning.data.archiving import Archiver
from cim_lightning.data.decode import decode
from cim_lightning.data.folder import folder
from cim_lightning.data.loader import Loading
from cim_lightning.data.pixel_format import RGB8
from cim_lightning.data.source import NoImages, Source, Splits
from cim_lightning.data.stored_image import StoredFormat
from cim_lightning.data.view_dataset import RandomResizedCropFlip, ViewDataset
from cim_lightning.data.webdataset import webdataset

IMAGES, SIDE, IMAGENET = 200, 224, 1_281_167
GPU_RATES = {"ViT-B/16": 4470, "ViT-S/16": 13200}  # images/s that a GPU trains at 45 % of 790 TFLOP/s
EARLIER, FILES = "files, Pillow only", "files"
COPIES = "archives of the same files"
ARCHIVES: dict[str, dict[str, Any]] = {
    COPIES: {"short_side": None},
    "raw, 256": {"short_side": 256, "format": "raw"},
    "q90 4:4:4, 256": {"short_side": 256},
    "q90 4:2:0, 256": {"short_side": 256, "subsampling": "4:2:0"},
    "q90 4:4:4, 320": {"short_side": 320},
    "raw, 320": {"short_side": 320, "format": "raw"},
}
PREDICTED = {"q90 4:4:4, 256": 3.2, "raw, 256": 6.7}  # times the earlier path


class PillowView(RandomResizedCropFlip):
    """The view of earlier versions: the same crop, resized and flipped by Pillow."""

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> np.ndarray:
        box = self.sample(*image.size, rng)
        view = image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)
        flipped = rng.random() < self.flip
        return np.array(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flipped else view)


class PillowFiles:
    """The images of a source, decoded by Pillow only, as in earlier versions."""

    def __init__(self, source: Any):
        self.source, self.keys, self.classes = source, source.keys, source.classes

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return decode(self.source.path(index)), int(self.source.labels[index])


@contextmanager
def all_sources(data: Path | None, limit: int) -> Iterator[dict[str, Source]]:
    """Yield the images of full-size files and of archives made from them."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as temporary:
        root = Path(temporary)
        (root / "files").mkdir()
        for number, photograph in enumerate(photographs(data, limit)):
            (root / "files" / f"{number:04}.jpg").write_bytes(photograph)
        files = folder(str(root / "files"), 0.5, 0, RGB8, train=".", val="none").train
        sources: dict[str, Source] = {EARLIER: PillowFiles(files), FILES: files}
        for name, settings in ARCHIVES.items():
            target = ArchiveFolder(root / name, {})
            target.open()
            stored = StoredFormat(RGB8, **settings)
            Archiver(Splits(files, NoImages()), target, stored, IMAGES, Loading(0, None)).write()
            sources[name] = webdataset(str(root / name), 0.5, 0, RGB8).train
        yield sources


def read(source: Any, count: int) -> None:
    """Read the files of all images."""
    for index in range(count):
        source.content(index)


def load(dataset: ViewDataset, count: int) -> None:
    """Load the views of all images."""
    for index in range(count):
        dataset[0, index]


def psnr(views: list[np.ndarray], originals: list[np.ndarray]) -> float:
    """Return the median over views of the peak signal-to-noise ratio, in dB."""
    errors = [((a.astype(float) - b) ** 2).mean() for a, b in zip(views, originals, strict=True)]
    return float(np.median([10 * np.log10(255**2 / max(error, 1e-9)) for error in errors]))


def views_of(source: Source) -> list[np.ndarray]:
    """Return a view of each image: the same part of it, whatever its size."""
    views = []
    for index in range(len(source)):
        image = Image.fromarray(np.asarray(source[index][0]))
        view, rng = RandomResizedCropFlip(SIDE, (0.5, 1), (3 / 4, 4 / 3), 0), np.random.default_rng(index)
        box = np.array(view.sample(4000, 3000, rng)) / (4000, 3000, 4000, 3000) * (*image.size, *image.size)
        views.append(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=tuple(box))))
    return views


def stored_bytes(source: Any) -> float:
    """Return the mean size of an image's file."""
    return float(np.mean([len(source.content(i)) for i in range(len(source))]))


def measure(args: argparse.Namespace) -> Report:
    limit = 3 if args.smoke else IMAGES
    with all_sources(args.data, limit) as sources:
        count = len(sources[FILES])
        variants: dict[str, Callable[[], object]] = {}
        for name, source in sources.items():
            view = (PillowView if name == EARLIER else RandomResizedCropFlip)(
                SIDE, (0.5, 1), (3 / 4, 4 / 3), 0.5
            )
            variants[name] = partial(load, ViewDataset(source, view, 0), count)
        timings = interleave(variants, args.rounds)
        views = {name: views_of(source) for name, source in sources.items()}
        entries, quality = [], {}
        for name, source in sources.items():
            rate = 1000 * count / timings[name].cpu.median
            values = {f"cores for {model}": np.ceil(need / rate) for model, need in GPU_RATES.items()}
            if name in ARCHIVES and name != COPIES:
                quality[name] = psnr(views[name], views[f"raw, {ARCHIVES[name]['short_side']}"])
                values["ImageNet, GB"] = stored_bytes(source) * IMAGENET / 1e9
                values["PSNR, dB"] = psnr(views[name], views[FILES])
                if not name.startswith("raw"):
                    values["PSNR against raw, dB"] = quality[name]
            baseline = None if name == EARLIER else EARLIER
            entries.append(
                Entry("bytes to view", name, timings[name], count, "image", baseline, values=values)
            )
        readers = {name: partial(read, sources[name], count) for name in (FILES, COPIES)}
        reading = interleave(readers, args.rounds)
    entries += [
        Entry("read a file", name, timing, count, "image", None if name == FILES else FILES)
        for name, timing in reading.items()
    ]
    speed = {name: speedup(timings[EARLIER], timings[name]) for name in timings}
    limits = {"q90 4:4:4, 256": 3.0, "raw, 256": 6.0}
    claims = [
        Claim(
            f"views from archives, {name}, against {EARLIER}",
            speed[name],
            "at least",
            limit,
            "x",
            PREDICTED[name],
        )
        for name, limit in limits.items()
    ]
    name = "q90 4:4:4, 256"
    claims.append(Claim(f"views from archives, {name}, against raw", quality[name], "at least", 39, "dB", 40))
    return Report(entries, claims)


if __name__ == "__main__":
    main("archives", measure, __doc__)
