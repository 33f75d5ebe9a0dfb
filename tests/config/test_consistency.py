"""Settings that make no sense together are refused before anything is built or imported."""

import copy
import functools
import re

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from cim_lightning.config import consistency
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.errors import ConfigError

BASE = ("paths.run=run", "output_dir=run", "logger=[csv]", "trainer=cpu", "data.num_workers=2")


BUDGET = ("budget=images", "budget.images=512")


@functools.cache
def base(*choices: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("pretrain", [*BASE, *choices])


def composed(*overrides: str) -> DictConfig:
    """Compose the choices of groups, once, and set the other values."""
    choices = [override for override in overrides if re.fullmatch(r"[a-z_]+=[a-z_]+", override)]
    cfg = copy.deepcopy(base(*choices))
    given = [o.lstrip("+").split("=") for o in overrides if o not in choices and not o.endswith("=[]")]
    for key, value in given:
        OmegaConf.update(cfg, key, yaml.safe_load(value), force_add=True)
    return cfg


def check(*overrides: str, machine: tuple[int, float] = (4, 16e9)) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(consistency, "num_cores", lambda: machine[0])
        patch.setattr(consistency, "memory_bytes", lambda: int(machine[1]))
        consistency.check_pretraining(composed(*overrides), overrides)


def refused(message: str, *overrides: str, **machine: tuple[int, float]) -> ConfigError:
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        check(*overrides, **machine)
    assert "\n" not in str(caught.value)
    return caught.value


VALUE = functools.partial(pytest.mark.user_input, "value")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["callbacks.panels=3"], r"callbacks\.panels=3: must be null, or settings with a class as _target_"),
        (["+callbacks.mine={}"], r"callbacks\.mine={}: must be null"),
        (["+logger.mine.project=x"], r"logger\.mine={project: x}: must be null"),
        pytest.param(
            ["callbacks.best.filename=last"],
            r"callbacks\.best\.filename=last: callbacks\.last writes last\.ckpt.*; try .*filename=best",
            marks=VALUE(
                "`callbacks.best.filename=last`", "refused, because it would overwrite the resume point"
            ),
        ),
        (["callbacks.best.filename=previous"], r"callbacks\.best\.filename=previous: "),
        (["+callbacks.best.save_last=true"], r"callbacks\.best\.save_last=true: callbacks\.last writes"),
        pytest.param(
            ["method=simmim", "decoder=cross_attention"],
            r"decoder=cross_attention: nothing else in this command reads it; leave decoder out",
            marks=VALUE("a decoder or a target for a method that has none", "refused"),
        ),
        (["method=mae", "target=ema"], r"target=ema: nothing else .*; leave target out"),
        (["segmentation_data=synthetic"], r"segmentation_data=synthetic: nothing else in this command"),
        (["backbone={}"], r"backbone={}: changes nothing"),
        (["data.source={}"], r"data\.source={}: changes nothing"),
        (["+budget.petaflop=3"], r"budget\.petaflop=3: there are settings of budget, but no option"),
        pytest.param(
            ["budget=images", "budget.images=512", "trainer.max_epochs=5"],
            r"trainer\.max_epochs=5: the budget sets the length of training; leave it out",
            marks=VALUE(
                "`trainer.max_epochs` beside a budget", "refused, because the budget sets the length"
            ),
        ),
        (
            [*BUDGET, "trainer.accumulate_grad_batches=4", "trainer.limit_train_batches=10"],
            r"trainer\.limit_train_batches=10: with a budget, .* a multiple of .*; try .*=8$",
        ),
        (
            [*BUDGET, "trainer.accumulate_grad_batches=2", "trainer.limit_train_batches=0.5"],
            r"trainer\.limit_train_batches=0\.5: with a budget, .* a multiple of .*; try .*=2$",
        ),
        (["+trainer.logger=true"], r"trainer\.logger=true: the group logger sets it; try logger=\.\.\."),
        (["trainer.use_distributed_sampler=true"], r"trainer\.use_distributed_sampler=true: the sampler of"),
        (["paths.run=null"], r"paths\.run=null: must be a folder; set output_dir instead"),
        (["trainer.max_epochs=0"], r"trainer\.max_epochs=0: must be at least 1"),
    ],
)
def test_a_setting_without_sense_is_refused(overrides, message):
    refused(message, *overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["callbacks.panels=null"],
        ["callbacks.best.filename=lowest"],
        ["method=simmim"],
        ["target.momentum=0.9"],
        ["evaluation=dense", "segmentation_data=synthetic"],
        ["budget=images", "budget.images=512"],
        ["+budget.images=512", "budget=[]", "trainer.max_epochs=5"],  # the budget of a recipe, switched off
        ["budget=images", "budget.images=512", "trainer.max_steps=-1"],
        [*BUDGET, "trainer.limit_train_batches=0.5"],
        [*BUDGET, "trainer.limit_train_batches=6", "trainer.accumulate_grad_batches=3"],
        [*BUDGET, "trainer.accumulate_grad_batches=3"],
        ["trainer.limit_train_batches=5", "trainer.accumulate_grad_batches=2"],
        ["trainer.max_steps=5"],
    ],
)
def test_sensible_settings_pass(overrides):
    check(*overrides)


@pytest.mark.parametrize(("cores", "workers", "valid"), [(4, 16, True), (4, 17, False), (64, 256, True)])
def test_the_number_of_workers_is_limited_by_the_cores(cores, workers, valid):
    if valid:
        check(f"data.num_workers={workers}", "data.view_size=32", machine=(cores, 1e12))
        return
    error = refused(f"data.num_workers={workers}: each worker is", f"data.num_workers={workers}")
    assert error.suggest == cores - 1


def test_the_data_must_have_the_share_of_labels_of_the_method():
    check("method.labels=0.1")
    check("data.label_share=0.1")
    error = refused(
        "data.label_share=0.2: must be method.labels, 0.1", "method.labels=0.1", "data.label_share=0.2"
    )
    assert error.hint == "leave data.label_share out"


@pytest.mark.parametrize(
    ("size", "batch", "workers", "gigabytes", "parameter"),
    [
        # Views in memory: size^2 * 3 bytes * batch * (1 + 2 * workers), and one view in fp32.
        (224, 256, 8, 1.0, None),  # 0.66 GB
        (224, 256, 8, 0.6, "data.num_workers"),
        (224, 4096, 1, 1.0, "data.batch_size"),  # 1.85 GB
        (100_000, 8, 0, 64, "data.view_size"),  # 360 GB
        (100_000, 1, 0, 64, "data.view_size"),  # 150 GB
    ],
)
def test_views_must_fit_into_memory(size, batch, workers, gigabytes, parameter):
    def settings(**changed: int) -> tuple[str, ...]:
        values = {"view_size": size, "batch_size": batch, "num_workers": workers, **changed}
        return tuple(f"data.{name}={value}" for name, value in values.items())

    machine = (64, gigabytes * 1e9)
    if parameter is None:
        check(*settings(), machine=machine)
        return
    unit = "GB" if gigabytes >= 1 else "MB"
    error = refused(f"{parameter}=.* {unit}; try {parameter}=", *settings(), machine=machine)
    check(*settings(**{parameter.removeprefix("data."): error.suggest}), machine=machine)
