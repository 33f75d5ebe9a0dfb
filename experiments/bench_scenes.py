"""Throughput of the synthetic scenes on one core, compared with decoding the same scenes from JPEG.

Run on an idle machine: `python experiments/bench_scenes.py`. Results: experiments/benchmarks.md.
"""

import io
import statistics
import time
from collections.abc import Callable

from PIL import Image

from cim_lightning.data.decode import decode
from cim_lightning.data.synthetic.dataset import SyntheticScenes

SIZES, RUNS, IMAGES = (32, 64, 128), 5, 500


def throughput(read: Callable[[int], object]) -> str:
    """Return the median of the runs in images per second, with the slowest and the fastest run."""
    rates = []
    for run in range(RUNS):
        start = time.perf_counter()
        for index in range(run * IMAGES, (run + 1) * IMAGES):
            read(index)
        rates.append(IMAGES / (time.perf_counter() - start))
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def main() -> None:
    print("| side in pixels | rendered | the same scenes decoded from JPEG |\n|---|---|---|")
    for size in SIZES:
        scenes = SyntheticScenes(RUNS * IMAGES, size, seed=0)
        files = [jpeg(scenes[index][0]) for index in range(100)]  # also warms up the renderer
        rendered, decoded = throughput(scenes.__getitem__), throughput(lambda i, f=files: decode(f[i % 100]))
        print(f"| {size} | {rendered} | {decoded} |")


if __name__ == "__main__":
    main()
