"""Masks of the embedded data set, for segmentation without files."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from cim_lightning.data.segmentation import IGNORE_INDEX, SegmentationSplits
from cim_lightning.data.synthetic.dataset import CLASSES, SyntheticScenes, synthetic
from cim_lightning.data.synthetic.rendering import visible_objects


@dataclass
class SceneMasks:
    """Scenes with masks: 0 on the background, 1 + label on the object, IGNORE_INDEX on the distractor."""

    scenes: SyntheticScenes

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]:
        image, label = self.scenes[index]
        assert isinstance(image, Image.Image)  # the scenes of masks are RGB images
        scene = self.scenes.scene(index)
        labeled = max(scene.objects, key=lambda obj: obj.area)  # the distractor is smaller
        values = [1 + label if obj is labeled else IGNORE_INDEX for obj in scene.objects]
        mask = np.array([*values, 0], np.uint8)[visible_objects(scene, self.scenes.image_size)]
        return image, mask


def synthetic_masks(num_train: int, num_val: int, image_size: int, seed: int) -> SegmentationSplits:
    """Return the images of `synthetic` with their masks."""
    splits = synthetic(num_train, num_val, image_size, seed)
    train, val = (SceneMasks(scenes) for scenes in splits[:2])  # pyright: ignore
    return SegmentationSplits(train, val, ["background", *CLASSES])
