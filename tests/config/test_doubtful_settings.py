"""Settings of the command line that another setting switches off are reported with that setting."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.config.doubtful_settings import SWITCHES, doubtful_settings, unused_split_settings

BASE = ("paths.run=run", "output_dir=run", "logger=[csv]", "trainer=cpu")
JITTER = "cropping.appearance.jitter_prob=0"
LOCAL = ("method=dino", "cropping.num_local_crops=0", "cropping.local_crop.size=64")
FIRST = "cropping.global_crop_1.appearance"


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        ([], []),
        ([JITTER], []),
        (["cropping.appearance.hue=0.3"], []),
        pytest.param(
            [JITTER, "cropping.appearance.hue=0.3"],
            ["cropping.appearance.hue=0.3 has no effect, because of cropping.appearance.jitter_prob=0"],
            marks=pytest.mark.user_input(
                "value", "`cropping.appearance.hue` with `jitter_prob=0`, and the like", "a warning"
            ),
        ),
        (LOCAL, ["cropping.local_crop.size=64 has no effect, because of cropping.num_local_crops=0"]),
        (["method=dino", f"{FIRST}.jitter_prob=0", f"{FIRST}.hue=0.3"], []),  # the other crops read it
        (
            ["+trainer.gradient_clip_algorithm=value", "trainer.gradient_clip_val=null"],
            [
                "trainer.gradient_clip_algorithm=value has no effect, because of "
                "trainer.gradient_clip_val=null"
            ],
        ),
        (
            ["evaluation=robustness", "evaluation.robustness.radii=[]", "evaluation.robustness.pgd_steps=3"],
            ["evaluation.robustness.pgd_steps=3 has no effect, because of evaluation.robustness.radii=[]"],
        ),
        (
            ["cropping=half"],
            [
                "data.view_size=224: the contexts of this cropping have 64 pixels, so most decoded pixels "
                "are not used; try data.view_size=64"
            ],
        ),
        (["cropping=half", "data.view_size=64"], []),
        (["compile_mode=default"], ["compile_mode=default has no effect, because of compile=false"]),
        (["compile_mode=max-autotune", "compile=true"], []),
        (
            ["cropping=half", "data.view_size=32"],
            ["cropping.context_size=64: views of 32 pixels are enlarged; try data.view_size=64"],
        ),
    ],
)
def test_lines(overrides, lines):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("pretrain", [*BASE, *overrides])
    assert doubtful_settings(cfg, overrides) == lines


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_switch_and_its_settings_are_in_the_configuration(switch):
    """A renamed setting would never be reported."""
    text = "".join(file.read_text() for file in CONF.rglob("*.yaml")) + "gradient_clip_algorithm:"
    for name in (switch, *SWITCHES[switch]):
        assert f"{name.rpartition('.')[2]}:" in text


@pytest.mark.parametrize(
    ("source", "drawn", "lines"),
    [
        ({"val_fraction": 0.3, "seed": 1}, True, 0),
        pytest.param(
            {"val_fraction": 0.3, "seed": 1},
            False,
            2,
            marks=pytest.mark.user_input(
                "value", "`data.source.val_fraction` where `val/` exists", "a warning"
            ),
        ),
        ({"seed": 1}, False, 0),  # of generated images
    ],
)
def test_settings_of_a_split_that_is_not_random_are_reported(source, drawn, lines):
    overrides = [f"data.source.{name}={value}" for name, value in source.items()]
    cfg = OmegaConf.create({"data": {"source": source}})
    found = unused_split_settings(cfg, overrides, drawn)
    assert len(found) == lines
    for override, line in zip(overrides, found, strict=False):
        assert line == f"{override} has no effect, because the validation images are not drawn at random"
    assert unused_split_settings(cfg, [], drawn) == []
