"""What the speed on a GPU has to show, from the entries of bench_gpu.py."""

from bench.interleave import Timing
from bench.ledger import Claim, Entry

EPOCHS, IMAGES = 300, 1_281_167  # of ImageNet


def claims(entries: list[Entry]) -> list[Claim]:
    """Return the claims about the entries that were measured."""
    times = {
        (entry.stage, entry.variant.partition(", batch")[0]): entry for entry in sorted(entries, key=_rate)
    }

    def value(stage: str, variant: str, title: str) -> float | None:
        entry = times.get((stage, variant))
        return entry.values.get(title) if entry else None

    def rate(stage: str, variant: str) -> float | None:
        entry = times.get((stage, variant))
        return _rate(entry) if entry else None

    def ratio(a: float | None, b: float | None, factor: float = 1) -> float | None:
        return factor * a / b if a is not None and b else None

    peak = max((e.values["TFLOP/s"] for e in entries if e.stage == "matrix product"), default=None)
    base, small = (rate("training step", name) for name in ("CIM, ViT-B/16", "CIM, ViT-S/16"))
    crop = rate("cropping", "as in training")
    loaded = rate("training from archives", "CIM, ViT-S/16")
    small_ops = ratio(value("training step", "CIM, ViT-S/16", "TFLOP/s"), small)
    return [
        Claim("cropping of 256 views", ratio(256_000, crop), "at most", 1, "ms"),
        Claim("cropping, share of a step of ViT-B/16", ratio(base, crop, 100), "at most", 3, "%"),
        Claim("cropping, share of a step of ViT-S/16", ratio(small, crop, 100), "at most", 10, "%"),
        Claim(
            "ViT-B/16, share of the peak",
            ratio(value("training step", "CIM, ViT-B/16", "TFLOP/s"), peak, 100),
            "at least",
            45,
            "%",
        ),
        Claim(
            "ViT-S/16 from archives, share of the peak",
            ratio((small_ops or 0) * (loaded or 0) or None, peak, 100),
            "at least",
            25,
            "%",
        ),
        Claim(
            "GPU idle between steps",
            value("training from archives", "CIM, ViT-S/16", "GPU idle, %"),
            "at most",
            2,
            "%",
        ),
        Claim(
            "ViT-B/16, against the step per exemplar in fp32",
            ratio(base, rate("training step", "per exemplar, fp32, ViT-B/16")),
            "at least",
            6,
            "x",
        ),
        Claim(
            f"{EPOCHS} epochs of ImageNet, ViT-B/16",
            ratio(EPOCHS * IMAGES / 3600, base),
            "at most",
            20,
            "GPU hours",
        ),
    ]


def _rate(entry: Entry) -> float:
    """Return images per second."""
    timing: Timing | None = entry.timing
    return 1000 * entry.count / timing.wall.median if timing else 0.0
