"""Signatures and checks that are read from the source equal those of the imported classes and functions."""

import inspect
import re
import sys
import textwrap
import typing

import pytest
from beartype.door import is_bearable
from hydra import compose, initialize_config_dir

from cim_lightning.config import source_code, validate
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.config.constructor_checks import run_checks
from cim_lightning.config.signatures import imported_signature, read_signature
from cim_lightning.config.source_hints import stand_in
from cim_lightning.config.source_names import BUILT, UNKNOWN
from cim_lightning.cropping.random_crop import RandomCrop
from cim_lightning.errors import ConfigError

TARGETS = sorted(
    {name for file in CONF.rglob("*.yaml") for name in re.findall(r"_target_: ([\w.]+)", file.read_text())}
)
READ = [name for name in TARGETS if name.partition(".")[0] in source_code.READABLE]

MODULE = '''
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import not_installed
from cim_lightning.checks import check_at_least, check_one_of, check_share
from cim_lightning.errors import ConfigError
from not_installed import nn

MODES, LIMIT = ("a", "b"), 3
Sizes = Sequence[int] | None


def check_side(side: int) -> None:
    if side % 2:
        raise ConfigError("side", side, "must be even", suggest=side + 1)


@dataclass
class Base:
    kind: ClassVar[str] = "x"
    share: float
    sizes: Sizes = None
    extra: list[int] = field(default_factory=list)
    hidden: int = field(init=False, default=1)

    def __post_init__(self) -> None:
        check_share("share", self.share)


@dataclass
class Child(Base):
    side: int = 2
    mode: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.net = nn.Linear(self.side, 1)
        check_side(self.side)
        check_at_least("net", self.net, 1)
        for name in ("side",):
            check_at_least(name, getattr(self, name), LIMIT - 2)
        if self.sizes is not None:
            check_at_least("sizes", min(self.sizes), 1)


class Network(nn.Module):
    def __init__(self, inner: "nn.Module", width: int = LIMIT, *, mode: str = "a", **others: int):
        check_one_of("mode", mode, MODES)
        if inner is None:
            raise ConfigError("inner", None, "is needed")
        width = others["width"]
        check_at_least("width", width, 1)
        Child(0.5, side=others["side"])
        if os.path.exists("x"):
            return
        check_at_least("never", -1, 0)


def load(path: str, count: int = 1) -> None:
    """Open a file."""
    check_at_least("count", count, 1)
    Child(0.5, None, side=count)
    raise RuntimeError
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of a readable package whose imports are not installed."""
    package = tmp_path / "readable_package"
    package.mkdir()
    (package / "__init__.py").write_text("from readable_package.inner import Network as Alias\n")
    (package / "inner.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(source_code, "READABLE", ("cim_lightning", "readable_package"))
    yield "readable_package.inner"
    assert not {"readable_package", "not_installed"} & sys.modules.keys()
    source_code.load.cache_clear()


def shown(hint: object) -> str:
    text = hint.__name__ if inspect.isclass(hint) and not typing.get_args(hint) else str(hint)
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)


def words(hint: object) -> list[str]:
    """Return the words of a hint; typing may return an equal union in another order."""
    return sorted(re.findall(r"\w+|'[^']*'", shown(hint)))


@pytest.mark.parametrize("target", [name for name in READ if ".cli." not in name])
def test_the_signature_of_the_source_is_that_of_the_import(target):
    read, imported = read_signature(target), imported_signature("group", target)
    assert read is not None
    assert imported is not None
    assert (read.target, read.any_name) == (imported.target, imported.any_name)
    expected = {name: (words(p.hint), p.required) for name, p in imported.parameters.items()}
    assert {name: (words(p.hint), p.required) for name, p in read.parameters.items()} == expected
    assert str(read.positional) == str(imported.positional)  # in their order


def test_fields_bases_and_aliases_are_read_without_an_import(module):
    signature = read_signature(f"{module}.Child")
    assert signature is not None
    found = {name: (shown(p.hint), p.required) for name, p in signature.parameters.items()}
    assert found == {
        "share": ("float", True),
        "sizes": ("Sequence[int] | None", False),
        "extra": ("list[int]", False),
        "side": ("int", False),
        "mode": ("Literal['a', 'b']", False),
    }
    network = read_signature("readable_package.Alias")
    assert network is not None
    assert network.any_name
    assert [*network.parameters] == ["inner", "width", "mode"]
    assert shown(network.parameters["inner"].hint) == "Module"
    assert read_signature("torch.nn.Linear") is None


@pytest.mark.parametrize(
    ("target", "settings", "line"),
    [
        ("Child", {"share": 2.0}, "share=2.0: must be at least 0 and at most 1; try share=1.0"),
        ("Child", {"share": 0.5, "side": 3}, "side=3: must be even; try side=4"),
        ("Child", {"share": 0.5, "side": 0}, "side=0: must be at least 1; try side=1"),
        ("Child", {"share": 0.5, "sizes": [0, 1]}, "sizes=0: must be at least 1; try sizes=1"),
        ("Network", {"inner": BUILT, "mode": "c"}, "mode=c: must be one of a, b; choose from a, b"),
        ("Network", {"inner": None}, "inner=null: is needed"),
        ("load", {"path": "x", "count": 0}, "count=0: must be at least 1; try count=1"),
        ("load", {"path": "x", "count": 3}, "side=3: must be even; try side=4"),  # a class that it builds
    ],
)
def test_checks_run_without_an_import(target, settings, line, module):
    with pytest.raises(ConfigError) as caught:
        run_checks(f"{module}.{target}", settings)
    assert str(caught.value) == line


def test_what_only_an_import_can_tell_is_skipped(module):
    skipped = run_checks(f"{module}.Child", {"share": UNKNOWN})
    assert skipped == ["check_share('share', self.share)", "check_at_least('net', self.net, 1)"]
    skipped = run_checks(f"{module}.Network", {"inner": BUILT, "mode": "b"})
    assert skipped == ["check_at_least('width', width, 1)"]  # the rest may be after a return
    assert run_checks(f"{module}.Network", {}, partial=True)[0] == "check_one_of('mode', mode, MODES)"


# Classes with checks that need more than the settings: what another object has, or what a resolver computes.
NEED_MORE = {
    *(
        "ImageData",
        "Finetune",
        "Robustness",
        "StoredCorruptions",
        "DomainShift",
        "WandbLogger",
        "RandAugmentCrop",
        "CorrelationDecoder",
    ),
    *("MultiCropper", "MaskedMultiCropper", "MaskedCropper", "MultiBlockCropper", "DINO", "IBOT"),
}


@pytest.mark.parametrize(
    "overrides",
    [
        ["evaluation=[all,finetune,segmentation]", "segmentation_data=synthetic", "logger=csv"],
        ["method=dino", "callbacks.best=null"],
    ],
)
def test_all_other_checks_run_for_the_settings_of_a_command(overrides, monkeypatch):
    skipped: dict[str, list[str]] = {}

    def run(target: str, settings: dict, partial: bool) -> None:
        if found := run_checks(target, settings, partial):
            skipped[target.rpartition(".")[2]] = found

    monkeypatch.setattr(validate, "run_checks", run)
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        validate.check(compose("pretrain", ["paths.run=run", *overrides]), "pretrain")
    assert skipped
    assert skipped.keys() <= NEED_MORE, skipped


def test_a_stand_in_is_not_taken_for_the_class_with_its_name():
    """beartype takes two hints with the same text for the same hint."""
    name = "cim_lightning.cropping.random_crop.RandomCrop"
    crop = RandomCrop(8, (0.5, 1), (1, 1), 0)
    assert not is_bearable(crop, stand_in(name) | None)
    assert is_bearable(crop, RandomCrop | None)
