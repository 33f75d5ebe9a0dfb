"""Settings of runs of earlier versions."""

from cim_lightning.old_settings import upgrade

IMAGES = "cim_lightning.data.datamodule.ImageData"
BACKBONE = "cim_lightning.models.timm_backbone.TimmBackbone"


def test_moved_functions_and_added_parameters():
    old = {
        "data": {"_target_": IMAGES, "source": {"_target_": "cim_lightning.data.source.folder", "seed": 3}},
        "method": {"backbone": {"_target_": BACKBONE, "kwargs": {"depth": 2}}},
        "callbacks": [{"a": 1}, None],
    }
    new = upgrade(old)
    assert new == {
        "data": {
            "_target_": IMAGES,
            "channels": 3,
            "bits": 8,
            "source": {"_target_": "cim_lightning.data.folder.folder", "seed": 3},
        },
        "method": {
            "backbone": {
                "_target_": BACKBONE,
                "kwargs": {"depth": 2},
                "in_channels": 3,
                "weights_layout": "auto",
            }
        },
        "callbacks": [{"a": 1}, None],
    }
    assert upgrade(new) == new
    assert "channels" not in old["data"]  # the argument is unchanged


def test_channels_of_the_timm_model():
    new = upgrade({"_target_": BACKBONE, "kwargs": {"in_chans": 1}})
    assert new == {"_target_": BACKBONE, "kwargs": {}, "in_channels": 1, "weights_layout": "auto"}


def test_present_settings_stay():
    present = {"_target_": IMAGES, "channels": 4, "bits": 16, "source": {"_target_": "x"}}
    assert upgrade(present) == present


def test_mean_and_deviation_of_imagenet_are_the_default():
    given = {"_target_": BACKBONE, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert upgrade(given) == given | {"in_channels": 3, "weights_layout": "auto", "mean": None, "std": None}
    other = given | {"mean": [0.5, 0.5, 0.5], "in_channels": 3, "weights_layout": "auto"}
    assert upgrade(other) == other
