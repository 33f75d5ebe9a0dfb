"""Images of a training: what was found, a sample of them, and how fast the workers deliver views."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from cim_lightning.data.resampling import image_size
from cim_lightning.doctor.finding import Finding
from cim_lightning.errors import BadImageError

SAMPLE = 100  # images that are decoded
SECONDS = 4.0  # of the measurement of the workers


def image_findings(data: Any) -> list[Finding]:
    """Return the number of images and classes, and sizes and bad images of a sample.

    Args:
        data: an ImageData.
    """
    train = data.splits.train
    findings = [Finding("images", data.splits.describe())]
    classes = train.classes
    if classes:
        shown = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
        findings.append(Finding("classes", f"{len(classes)}: {shown}"))
    else:
        findings.append(Finding("classes", "none; no k-NN accuracy during training"))
    if data.label_share is not None:
        findings.append(Finding("labels", data.images("train").describe_labels()))
    sample = np.random.default_rng(0).permutation(len(train))[:SAMPLE].tolist()
    sizes, reasons = _decode(train, sample)
    if sizes:
        widths, heights = np.sort(np.array(sizes), axis=0).T
        text = f"{len(sizes)} sampled: width {_spread(widths)}, height {_spread(heights)} pixels"
        small = sum(min(size) < data.view.size for size in sizes) / len(sizes)
        text += f"; {small:.0%} are smaller than a view of {data.view.size}" if small else ""
        findings.append(Finding("sizes", text))
    bad = sum(reasons.values())
    listed = "".join(f"; {number} x {reason}" for reason, number in reasons.most_common(2))
    findings.append(Finding("bad images", f"{bad} of {len(sample)} sampled{listed}"))
    return findings


def loader_images_per_s(data: Any) -> float:
    """Return the views per second of one device's workers, after the first batch.

    Args:
        data: an ImageData that is attached to no trainer.
    """
    batches = iter(data.train_dataloader())
    images, started = 0, None
    for batch in batches:
        now = time.perf_counter()
        if started is None:  # the workers have started
            started = now
            continue
        images += len(batch.labels)
        if now - started > SECONDS:
            return images / (now - started)
    raise AssertionError("batches of a training do not end")


def _decode(source: Any, indices: Sequence[int]) -> tuple[list[tuple[int, int]], Counter[str]]:
    """Return the sizes of images, and the reasons of those that cannot be decoded."""
    sizes, reasons = [], Counter()
    for index in indices:
        try:
            sizes.append(image_size(source[index][0]))
        except BadImageError as error:
            reasons[str(error).rpartition(": ")[2]] += 1
    return sizes, reasons


def _spread(ordered: Any) -> str:
    low, middle, high = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    return f"{low}" if low == high else f"{low}..{high} (median {middle})"
