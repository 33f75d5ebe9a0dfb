"""Masked contexts with exemplars: the parts are those of the two croppings, and masks are per image."""

import pytest
import torch

from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.cropping.masked_exemplars import MaskedExemplarCropper
from cim_lightning.errors import ConfigError

EXEMPLARS = ExemplarCropper(3, context_size=24, exemplar_size=8)


@pytest.fixture
def views() -> torch.Tensor:
    size = (5, 3, 32, 32)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_crops_are_those_of_the_exemplar_cropper(views):
    batch, crops = MaskedExemplarCropper(EXEMPLARS, 8, 0.5)(views, 7), EXEMPLARS(views, 7)
    assert torch.equal(batch.crops.context, crops.context)
    assert torch.equal(batch.crops.exemplars, crops.exemplars)
    assert torch.equal(batch.crops.boxes.center, crops.boxes.center)
    assert batch.num_images == 5


def test_masks_have_the_ratio_and_differ_between_images_and_seeds(views):
    cropping = MaskedExemplarCropper(EXEMPLARS, 4, 0.75)
    batch = cropping(views, 7)
    assert batch.mask.shape == (5, 6, 6)
    assert batch.num_masked == 27
    assert (batch.mask.flatten(1).sum(dim=1) == 27).all()
    assert not torch.equal(batch.mask[0], batch.mask[1])
    assert not torch.equal(batch.mask, cropping(views, 8).mask)


def test_a_mask_that_does_not_fit_the_context_is_refused():
    with pytest.raises(ConfigError, match="mask_patch_size=7"):
        MaskedExemplarCropper(EXEMPLARS, 7, 0.75)
