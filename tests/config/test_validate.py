"""Every setting is checked against the signature of its target."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from cim_lightning.config import validate
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.errors import ConfigError


def composed(*overrides: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("pretrain", ["paths.run=run", *overrides])


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("+callbacks.last.minutes=3", ["callbacks.last.minutes", "LastCheckpoint", "every_minutes"]),
        ("trainer.devices=[a]", ["trainer.devices=[a]", "list[int]", "trainer.devices=auto"]),
        ("++nothing=3", ["nothing=3: no such setting"]),
        ("target.momentum=null", ["target.momentum=null", "float", "target.momentum=0.99"]),
        ("callbacks.panels.num_images=1.5", ["callbacks.panels.num_images=1.5", "int", "=4"]),
        ("cropping.appearance.jitter_prob=[1]", ["cropping.appearance.jitter_prob=[1]", "float", "=0.8"]),
        ("cropping.scale=[a,b]", ["cropping.scale=[a, b]", "list[float]"]),
        ("+trainer.barebones=[1]", ["trainer.barebones=[1]: must be bool"]),  # no default in conf/
    ],
)
def test_a_setting_that_does_not_match_the_signature_is_refused(override, parts):
    with pytest.raises(ConfigError) as caught:
        validate.check(composed(override), "pretrain")
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "override",
    ["target.momentum=1", "cropping.rotation=10.5", "cropping.appearance=null", "~trainer.precision"],
)
def test_an_int_is_a_float_and_null_can_be_a_value_and_an_option_can_be_left_out(override):
    validate.check(composed(override), "pretrain")


def test_a_class_that_fails_to_import_is_not_reported_as_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_class.py").write_text("import not_installed_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError):
        validate.check(composed("+callbacks.mine._target_=broken_class.Mine"), "pretrain")
