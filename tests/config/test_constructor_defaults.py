"""The defaults of constructors, for use without Hydra, against the values in conf/."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import OmegaConf

from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.data.stored_image import StoredFormat

GROUPS = ("cropping", "decoder", "target", "optim")
# Other values for the class of another file of the same group.
VARIANTS = {
    *("cropping=small", "cropping=half", "cropping=masked_blocks", "cropping=two_views"),
    *("decoder=cross_attention_small", "target=ema_as_released"),
}
FILES = {
    f"{group}={file.stem}": group for group in GROUPS for file in sorted((CONF / group).glob("[!_]*.yaml"))
}
METHODS = sorted(file.stem for file in (CONF / "method").glob("*.yaml"))
BUILT_FROM_NONE = {"baseline"}  # a default of None, from which the constructor builds the object


def settings(group: str, *overrides: str) -> dict[str, Any]:
    """Return the resolved settings of a group."""
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("pretrain", ["paths.run=run", *overrides])
    return OmegaConf.to_container(cfg, resolve=True)[group]


def defaults_of(function: Any) -> dict[str, Any]:
    """Return the default of each parameter of a class, a function or a partial that has one."""
    parameters = inspect.signature(function).parameters.values()
    found = {p.name: p.default for p in parameters if p.default is not p.empty}
    fields = dataclasses.fields(function) if dataclasses.is_dataclass(function) else ()
    built = {f.name: f.default_factory() for f in fields if f.default_factory is not dataclasses.MISSING}
    return found | built


def differences(default: Any, setting: Any, path: str = "") -> list[str]:
    """Return the paths at which a default differs from a setting."""
    if isinstance(setting, Mapping) and "_target_" in setting:
        target = get_object(setting["_target_"])
        values = {key: value for key, value in setting.items() if not key.startswith("_")}
        if setting.get("_partial_"):
            if getattr(default, "func", default) is not target:
                return [f"{path}: {default} is not {target}"]
            defaults = defaults_of(default)
        else:
            if type(default) is not target:
                return [f"{path}: {default} is not a {target}"]
            defaults = {key: getattr(default, key) for key in values}
        return differences(defaults, values, path)
    if isinstance(setting, Mapping):
        found = [differences(default.get(key), value, f"{path}.{key}") for key, value in setting.items()]
        return [difference for part in found for difference in part]
    if isinstance(setting, Sequence) and not isinstance(setting, str):
        if len(default) != len(setting):
            return [f"{path}: {default} != {setting}"]
        return differences(dict(enumerate(default)), dict(enumerate(setting)), path)
    if isinstance(setting, float):
        equal = isinstance(default, int | float) and math.isclose(default, setting, rel_tol=1e-9)
    else:
        equal = default == setting
    return [] if equal else [f"{path}: {default} != {setting}"]


@pytest.mark.parametrize("choice", [file for file in FILES if file not in VARIANTS])
def test_defaults_of_croppings_decoders_targets_and_optimizers(choice):
    group = settings(FILES[choice], choice)
    target = get_object(group.pop("_target_"))
    group.pop("_partial_", None)
    assert differences(defaults_of(target), group) == []


@pytest.mark.parametrize(("name", "choice"), [("contrast", "global"), ("tokens", "correlation")])
def test_defaults_of_the_optional_losses_of_cim(name, choice):
    group = settings("method", f"method/{name}={choice}")[name]
    assert differences(get_object(group["_target_"]), group) == []


@pytest.mark.parametrize("method", METHODS)
def test_defaults_of_methods(method):
    group = settings("method", f"method={method}")
    defaults = defaults_of(get_object(group.pop("_target_")))
    del group["backbone"]  # has no default
    for key in BUILT_FROM_NONE & group.keys():
        assert defaults.pop(key) is None
        del group[key]
    assert differences(defaults, group) == []
    only_in_python = defaults.keys() - group.keys()
    assert [defaults[key] for key in only_in_python] == [None] * len(only_in_python)


def test_the_default_baseline_of_cim_is_that_of_the_default_cropping():
    baseline = settings("method", "method=cim")["baseline"]
    assert differences(ExemplarCropper(), baseline["cropping"]) == []


def test_defaults_of_the_views():
    group = settings("data")
    views = {
        key: group[key] for key in group if key.startswith("view_") or key in ("batch_size", "seed", "cache")
    }
    assert len(views) == 7
    assert differences(defaults_of(get_object(group["_target_"])), views) == []


def test_defaults_of_archives():
    group: Any = OmegaConf.to_container(OmegaConf.load(CONF / "task" / "archives.yaml"))
    target = get_object(group.pop("_target_"))
    del group["_partial_"], group["folder"]
    assert differences(defaults_of(target), group) == []
    stored = defaults_of(StoredFormat)
    assert differences(stored, {name: group[name] for name in stored}) == []


def test_differences_are_found_at_every_depth():
    setting = {"_target_": "fractions.Fraction", "_partial_": True, "numerator": 1, "denominator": None}
    from fractions import Fraction

    assert differences(functools.partial(Fraction, numerator=1), setting) == []
    assert differences(functools.partial(Fraction, numerator=2), setting) == [".numerator: 2 != 1"]
    assert differences(Fraction, setting) == [".numerator: 0 != 1"]
    assert differences(int, setting) != []
    assert differences({"a": (1, 2)}, {"a": [1, 3]}) == [".a.1: 2 != 3"]
    assert differences({"a": (1, 2)}, {"a": [1]}) == [".a: (1, 2) != [1]"]
    assert differences({"a": 1 / 3}, {"a": 0.3333333333}) == []
    assert differences({"a": 0.3333}, {"a": 0.3333333333}) != []
