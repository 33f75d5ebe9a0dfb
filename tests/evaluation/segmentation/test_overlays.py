"""Colors and pictures of masks."""

import numpy as np

from cim_lightning.evaluation.segmentation.overlays import draw, overlay, palette


def test_all_classes_have_different_colors() -> None:
    colors = palette(150).astype(int)
    assert len({tuple(color) for color in colors.tolist()}) == 150
    first = palette(12).astype(int)
    distances = np.abs(first[:, None] - first[None]).sum(axis=2) + 1000 * np.eye(12, dtype=int)
    assert distances.min() > 60


def test_the_tones_of_the_colors() -> None:
    """The largest channel is the value, the smallest one the value times 1 - saturation."""
    colors = palette(6)
    assert colors.max(axis=1).tolist() == [255, 217, 140, 255, 217, 140]
    assert colors.min(axis=1).tolist() == [25, 108, 14, 128, 22, 70]


def test_an_overlay_is_40_percent_gray_and_60_percent_color_and_dark_where_ignored() -> None:
    image = np.full((2, 2, 3), 100, np.uint8)
    mask = np.array([[0, 1], [1, 255]], np.uint8)
    blended, colors = overlay(image, mask, 2), palette(2).astype(float)
    assert np.array_equal(blended[0, 0], np.rint(40 + 0.6 * colors[0]))
    assert np.array_equal(blended[1, 0], np.rint(40 + 0.6 * colors[1]))
    assert blended[1, 1].tolist() == [40, 40, 40]


def test_a_page_has_three_pictures_and_a_legend_of_the_present_classes() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 60, 3), dtype=np.uint8)
    mask, predicted = np.zeros((20, 60), np.uint8), np.full((20, 60), 2, np.uint8)
    page = np.asarray(draw(image, mask, predicted, ["a", "b", "c"]))
    assert np.array_equal(page[:20, :60], image)
    assert np.array_equal(page[:20, 60:120], overlay(image, mask, 3))
    assert np.array_equal(page[:20, 120:], overlay(image, predicted, 3))
    legend = {tuple(pixel) for pixel in page[20:].reshape(-1, 3).tolist()}
    shown = [tuple(color) in legend for color in palette(3).tolist()]
    assert shown == [True, False, True]
