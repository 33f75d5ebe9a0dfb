"""How many scenes the embedded data set draws a second on one core, beside decoding the same from JPEG.

Run it on a quiet machine: `python experiments/bench_scenes.py`. Results: experiments/benchmarks.md.
"""

import io
import statistics
import time
from collections.abc import Callable

from PIL import Image

from cim_lightning.data.decode import decode
from cim_lightning.data.synthetic.scenes import SyntheticScenes

SIZES, RUNS, IMAGES = (32, 64, 128), 5, 500


def speeds(read: Callable[[int], object]) -> str:
    """Median of the runs in images a second, with the slowest and the fastest."""
    found = []
    for run in range(RUNS):
        begun = time.perf_counter()
        for index in range(run * IMAGES, (run + 1) * IMAGES):
            read(index)
        found.append(IMAGES / (time.perf_counter() - begun))
    return f"{statistics.median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f})"


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def main() -> None:
    print("| pixels a side | drawn | the same scenes decoded from JPEG |\n|---|---|---|")
    for size in SIZES:
        scenes = SyntheticScenes(RUNS * IMAGES, size, seed=0)
        files = [jpeg(scenes[index][0]) for index in range(100)]  # drawn once before either is timed
        print(f"| {size} | {speeds(scenes.__getitem__)} | {speeds(lambda i, f=files: decode(f[i % 100]))} |")


if __name__ == "__main__":
    main()
