"""What an exported backbone needs to say about its images."""

from pathlib import Path

import pytest

from cim_lightning.errors import ConfigError
from cim_lightning.weights import ExportedBackbone


def test_an_exported_backbone_has_the_normalization_and_the_image_size():
    spec = {"create_model": {}, "normalize": None, "image_size": 64}
    assert ExportedBackbone(Path("b.safetensors"), spec, {}).input_spec() == (None, 64)


@pytest.mark.parametrize("missing", ["normalize", "image_size"])
def test_without_them_the_error_names_the_checkpoint(missing):
    spec = {"create_model": {}, "normalize": None, "image_size": 64}
    del spec[missing]
    with pytest.raises(ConfigError, match=r"^checkpoint=b\.safetensors: has no normalization and image size"):
        ExportedBackbone(Path("b.safetensors"), spec, {}).input_spec()
