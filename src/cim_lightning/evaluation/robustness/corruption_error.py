"""Mean corruption error: how much a classifier suffers, beside how much a baseline does.

Source: Hendrycks and Dietterich, ICLR 2019, section 4.1.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from cim_lightning.errors import ConfigError

SETTING = "baseline"  # of robustness or imagenet_c


@dataclass(frozen=True)
class CorruptionBaseline:
    """A classifier to compare with.

    Args:
        name: of the classifier and what it was measured on.
        clean: its error, 0..1, on images as they are.
        errors: its mean error over all severities, above 0 to 1, by corruption.
        classes: that it tells apart; None where that does not matter.
    """

    name: str
    clean: float
    errors: Mapping[str, float]
    classes: int | None = None


# For ImageNet-C only. The paper's table 1 has the clean error (43.5 %) and says 100 of everything else, which
# these unnormalized errors make so: those that its authors published beside the data set.
ALEXNET = CorruptionBaseline(
    "AlexNet on ImageNet-C",
    0.435,
    {
        "gaussian_noise": 0.886428,
        "shot_noise": 0.894468,
        "impulse_noise": 0.922640,
        "defocus_blur": 0.819880,
        "glass_blur": 0.826268,
        "motion_blur": 0.785948,
        "zoom_blur": 0.798360,
        "snow": 0.866816,
        "frost": 0.826572,
        "fog": 0.819324,
        "brightness": 0.564592,
        "contrast": 0.853204,
        "elastic_transform": 0.646056,
        "pixelate": 0.717840,
        "jpeg_compression": 0.606500,
    },
    classes=1000,
)


def alexnet() -> CorruptionBaseline:
    """The baseline of the paper."""
    return ALEXNET


def measured(path: str, part: str) -> CorruptionBaseline:
    """The baseline that a part of another evaluation, by its `metrics.json`, makes: robustness or imagenet_c.

    Raises ConfigError where there is no such file, or no corruption was measured in it.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"{SETTING}.path={path}: no such file; try the metrics.json of an evaluation")
    numbers = json.loads(file.read_text())
    before = f"{part}/error_"
    errors = {key.removeprefix(before): value for key, value in numbers.items() if key.startswith(before)}
    if not errors:
        raise ConfigError(
            f"{SETTING}.path={path}: holds no corruption errors of {part}; try run evaluation={part} there"
        )
    return CorruptionBaseline(path, 1 - numbers[f"{part}/accuracy_clean"], errors)


def corruption_errors(
    errors: Mapping[str, Sequence[float]], baseline: CorruptionBaseline
) -> dict[str, float]:
    """Corruption error of each corruption in per cent of the baseline's: 100 is as bad as it.

    Args:
        errors: 0..1, one a severity, by corruption. Severities are summed before dividing, as in the paper,
            so they must be those that the baseline's mean is over.

    Raises:
        ConfigError: the baseline was not measured on one of the corruptions, or made no mistake there.
    """
    check(errors, baseline)
    return {name: 100 * fmean(values) / baseline.errors[name] for name, values in errors.items()}


def mean_corruption_error(errors: Mapping[str, Sequence[float]], baseline: CorruptionBaseline) -> float:
    """mCE in per cent: the mean of `corruption_errors` over the corruptions."""
    return fmean(corruption_errors(errors, baseline).values())


def suffers(corruptions: Iterable[str], baseline: CorruptionBaseline) -> bool:
    """Whether each corruption adds to the baseline's error, without which nothing is relative to that."""
    return all(baseline.errors[name] > baseline.clean for name in corruptions)


def relative_mean_corruption_error(
    errors: Mapping[str, Sequence[float]], clean: float, baseline: CorruptionBaseline
) -> float:
    """Relative mCE in per cent: the same of what corruption adds to the error on clean images (0..1).

    Raises:
        ConfigError: as above, or the baseline does not suffer from one of the corruptions.
    """
    check(errors, baseline)
    shares = []
    for name, values in errors.items():
        added = baseline.errors[name] - baseline.clean
        if added <= 0:
            raise ConfigError(
                f"{SETTING}.errors.{name}={baseline.errors[name]}: {baseline.name} has this error without "
                f"corruption ({baseline.clean}), so nothing is relative to it; try leave {name} out"
            )
        shares.append(100 * (fmean(values) - clean) / added)
    return fmean(shares)


def check(corruptions: Iterable[str], baseline: CorruptionBaseline) -> None:
    """Raises ConfigError where the baseline lacks an error above 0 for one of the corruptions."""
    for name in corruptions:
        value = baseline.errors.get(name)
        if value is None or not 0 < value <= 1:
            raise ConfigError(
                f"{SETTING}.errors.{name}={value}: {baseline.name} needs its error there, above 0 to 1; "
                f"try {'measure it' if value is None else min(max(value, 0.01), 1)}"
            )
