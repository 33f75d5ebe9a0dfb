"""Masks of synthetic scenes: which object is visible where."""

import numpy as np

from cim_lightning.data.segmentation import IGNORE_INDEX, MaskSource
from cim_lightning.data.synthetic.dataset import SyntheticScenes
from cim_lightning.data.synthetic.masks import synthetic_masks
from cim_lightning.data.synthetic.rendering import render, visible_objects

SIZE = 64


def test_an_object_is_where_the_image_changes_without_it():
    scenes = SyntheticScenes(8, SIZE, 0)
    for i in range(8):
        scene = scenes.scene(i)
        visible = visible_objects(scene, SIZE) == 1
        complete = render(scene, SIZE).astype(int)
        object.__setattr__(scene, "objects", scene.objects[:1])
        changes = np.abs(complete - render(scene, SIZE)).max(axis=2) > 0
        assert changes[visible].mean() > 0.99  # a pixel may have the same color by chance
        shifts = [np.roll(visible, (dy, dx), (0, 1)) for dy in range(-2, 3) for dx in range(-2, 3)]
        assert not changes[~np.any(shifts, axis=0)].any()  # the edge is blurred


def test_masks_have_the_area_and_the_class_of_their_object():
    splits = synthetic_masks(30, 10, SIZE, 0)
    assert isinstance(splits.train, MaskSource)
    assert (len(splits.train), len(splits.val), len(splits.classes)) == (30, 10, 11)
    assert splits.classes[:2] == ["background", "gem"]
    for i in range(30):
        image, mask = splits.train[i]
        assert (image.size, mask.shape, mask.dtype) == ((SIZE, SIZE), (SIZE, SIZE), np.uint8)
        assert set(np.unique(mask)) <= {0, 1 + i % 10, IGNORE_INDEX}
        assert 0.08 < (mask == 1 + i % 10).mean() < 0.55  # holes and the distractor cover some of 0.22..0.51
        assert (mask == IGNORE_INDEX).mean() < 0.08


def test_images_are_those_of_the_data_set():
    splits = synthetic_masks(5, 5, SIZE, 3)
    scenes = SyntheticScenes(5, SIZE, 7)
    assert np.array_equal(np.asarray(splits.val[4][0]), np.asarray(scenes[4][0]))
