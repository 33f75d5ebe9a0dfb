"""Statistics of every corruption, and the published parameters.

`python tests/evaluation/corruptions/test_golden.py` writes golden.json. Rerun it only for a change that is
meant to change the corrupted images, and give the reason in the commit.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cim_lightning.data.synthetic.dataset import SyntheticScenes
from cim_lightning.evaluation.corruptions import blur, digital, noise, weather
from cim_lightning.evaluation.corruptions.catalog import CORRUPTIONS, SEVERITIES, corrupt

GOLDEN = Path(__file__).with_name("golden.json")


def statistics(name: str, severity: int) -> list[float]:
    """Mean of each channel, deviation, and distance from the clean images, of two rectangular images."""
    source = SyntheticScenes(2, 112, 7)
    arrays = np.stack([np.asarray(source[i][0])[:, :77] for i in range(2)])
    images = torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 255
    corrupted = corrupt(images, name, severity, torch.Generator().manual_seed(severity))
    distance = (corrupted - images).abs().mean()
    return [*corrupted.mean(dim=(0, 2, 3)).tolist(), corrupted.std().item(), distance.item()]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_statistics_are_those_of_the_golden_file(name):
    golden = json.loads(GOLDEN.read_text())[name]
    for severity in SEVERITIES:
        assert statistics(name, severity) == pytest.approx(golden[str(severity)], abs=2e-4)


def test_the_parameters_are_those_that_the_authors_published():
    # From the code of Hendrycks and Dietterich for ImageNet-C. catalog.py lists the differences.
    assert noise.SIGMAS == (0.08, 0.12, 0.18, 0.26, 0.38)
    assert noise.PHOTONS == (60, 25, 12, 5, 3)
    assert noise.SHARES == (0.03, 0.06, 0.09, 0.17, 0.27)
    assert blur.DEFOCUS == ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
    assert blur.GLASS == ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
    assert blur.MOTION == ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))
    assert blur.ZOOM == ((1.1, 0.01), (1.15, 0.01), (1.2, 0.02), (1.24, 0.02), (1.3, 0.03))
    snow = [0.1, 0.3, 3, 0.5, 10, 4, 0.8, 0.2, 0.3, 2, 0.5, 12, 4, 0.7, 0.55, 0.3, 4, None, 12, 8, 0.7]
    snow += [0.55, 0.3, 4.5, 0.85, 12, 8, 0.65, 0.55, 0.3, 2.5, 0.85, 12, 12, 0.55]
    found = [value for row in weather.SNOW for value in row]
    assert [a for a, b in zip(found, snow, strict=True) if b is not None and a != b] == []
    assert weather.FROST == ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
    assert weather.FOG[:3] == ((1.5, 2), (2, 2), (2.5, 1.7))
    assert [decay for _, decay in weather.FOG[3:]] == [1.5, 1.4]
    assert weather.BRIGHTNESS == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert digital.CONTRAST == (0.4, 0.3, 0.2, 0.1, 0.05)
    assert digital.ELASTIC[2:] == ((0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
    assert digital.PIXELATE == (0.6, 0.5, 0.4, 0.3, 0.25)
    assert digital.JPEG_QUALITY == (25, 18, 15, 10, 7)


if __name__ == "__main__":
    found = {
        name: {s: [round(v, 5) for v in statistics(name, s)] for s in SEVERITIES} for name in CORRUPTIONS
    }
    rows = [f"  {json.dumps(name)}: {json.dumps(values)}" for name, values in found.items()]
    GOLDEN.write_text("{\n" + ",\n".join(rows) + "\n}\n")
