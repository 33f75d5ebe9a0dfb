"""Partial settings must take the arguments with which a method calls them."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from cim_lightning.config.call_signatures import check_calls
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.errors import ConfigError

BASE = ("paths.run=run", "output_dir=run", "logger=[]", "trainer=cpu")


def composed(*overrides: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("pretrain", [*BASE, *overrides])


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        pytest.param(
            ["method=cim", "decoder=pixels"],
            "decoder=PixelDecoder: CIM calls it with 1 argument, which it does not take; "
            "choose from convolution, cross_attention, joint",
            marks=pytest.mark.user_input(
                "value", "the decoder of another method", "refused, with those that fit"
            ),
        ),
        (
            ["method=mae", "decoder=cross_attention"],
            "decoder=CorrelationDecoder: MAE calls it with 2 arguments, which it does not take; "
            "choose from pixels",
        ),
        (
            ["experiment=demo", "method=mae"],
            "decoder=CorrelationDecoder: MAE calls it with 2 arguments, which it does not take; "
            "choose from pixels",
        ),
    ],
)
def test_the_part_of_another_method_is_refused(overrides, line):
    with pytest.raises(ConfigError) as caught:
        check_calls(composed(*overrides))
    assert str(caught.value) == line


def test_parts_that_fit_pass():
    """Those of all methods are in test_compose."""
    check_calls(composed("evaluation=[segmentation,finetune,robustness]"))
