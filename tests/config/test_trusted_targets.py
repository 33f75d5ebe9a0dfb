"""Settings in a file from someone else: nothing that they name is imported or called."""

import re
import sys
from contextlib import contextmanager

import pytest
import torch
import yaml
from hydra.utils import get_object
from kornia.augmentation import AugmentationBase2D
from omegaconf import OmegaConf

from cim_lightning.checkpoint import RunCheckpoint, read_weights
from cim_lightning.config.from_checkpoint import fill_from_checkpoint, load, load_backbone, load_method
from cim_lightning.config.trusted_targets import check_trusted, conf_targets, targets
from cim_lightning.errors import ConfigError

TINY = {
    "_target_": "cim_lightning.models.timm_backbone.TimmBackbone",
    "name": "test_resnet",
    "kwargs": {},
}
RANDOM = {
    "_target_": "cim_lightning.methods.random.Random",
    "backbone": TINY,
    "optim": {"_target_": "cim_lightning.optim.AdamWCosine"},
    "batch_size": 2,
}
FOLDER = {
    "_target_": "cim_lightning.data.datamodule.ImageData",
    "source": {"_target_": "cim_lightning.data.folder.folder", "_partial_": True},
    "view_size": 32,
}
# What a stranger could put into the settings: (a path in the settings, a value). All of them ran before.
HOSTILE = [
    ("method", {"_target_": "builtins.exec", "_args_": ["open('executed', 'w')"]}),
    ("method", {"_target_": "os.system", "command": "touch executed"}),
    ("method.backbone", {"_target_": "shutil.copy", "src": "secret", "dst": "executed"}),
    ("method.optim", {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path"}]}),
    ("method.optim.betas", [0.9, {"_target_": "subprocess.run", "args": ["touch", "executed"]}]),
    ("method.backbone.kwargs.norm_layer", {"_target_": "planted.Norm"}),
    ("data.source", {"_target_": "os.mkdir", "path": "executed", "_partial_": False}),
    ("data.cropping", {"_target_": "cim_lightning.atomic.atomic_write", "path": "executed", "text": "x"}),
    ("data.cropping", {"_target_": "cim_lightning.models.timm_backbone.inspect.sys.exit"}),
    ("data.cropping", {"_target_": "cim_lightning.data.torchvision_datasets.os.mkdir", "path": "executed"}),
    ("data.cropping", {"_target_": ["os.mkdir"]}),
    ("data.cropping", {"_target_": "eval"}),
    ("method.optim", {"_target_": "os.mkdir\x1b[2J\nrefused"}),
    ("data.root", "${oc.env:HOME}"),
    ("method.backbone.name", "${oc.decode:${oc.env:HOME}}"),
]  # fmt: skip


def settings_with(path: str, value: object) -> dict:
    """Return the settings of a run, with a value at a path."""
    cfg = OmegaConf.create({"method": RANDOM, "data": FOLDER | {"root": "images", "cropping": None}})
    settings = OmegaConf.to_container(cfg)
    node, (*parents, last) = settings, path.split(".")
    for name in parents:
        node = node[name]
    node[last] = value
    return settings


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Return a function that saves a checkpoint with settings and gives its path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "planted.py").write_text("open('executed', 'w')\nclass Norm: pass\n")
    (tmp_path / "secret").write_text("secret")

    def function(settings: dict) -> str:
        torch.save({"hyper_parameters": settings, "state_dict": {}, "global_step": 1}, "run.ckpt")
        return "run.ckpt"

    return function


@pytest.mark.fault(
    "checkpoint", "its settings name another function, such as `os.system`", "refused by name; nothing runs"
)
@pytest.mark.parametrize(("path", "value"), HOSTILE)
def test_nothing_in_the_settings_of_a_checkpoint_runs(save, tmp_path, path, value):
    file = save(settings_with(path, value))
    before = set(sys.modules)
    cfg = OmegaConf.create({"data": {"view_size": None, "cropping": None}})
    calls = [lambda: load_method(file), lambda: load_backbone(file)]
    if path.startswith("data"):
        calls = [lambda: fill_from_checkpoint(cfg, read_weights(file))]
    for call in calls:
        with pytest.raises(
            ConfigError, match=r"^checkpoint=run\.ckpt: its settings (name|have the inter)"
        ) as raised:
            call()
        assert str(raised.value).isprintable()
    assert not (tmp_path / "executed").exists()
    assert "planted" not in set(sys.modules) - before


def paths(node: object, path: str = "") -> list[str]:
    """Return the paths of all nodes below a node of plain settings."""
    found = []
    for key, value in node.items() if isinstance(node, dict) else ():
        found += [f"{path}{key}", *paths(value, f"{path}{key}.")]
    return found


@contextmanager
def suppress_one_line():
    """Suppress a ConfigError of one line."""
    try:
        yield
    except ConfigError as error:
        if "\n" in str(error):
            raise


@pytest.mark.fault("checkpoint", "its settings are damaged", "one line with the reason")
@pytest.mark.parametrize("path", [path for path in paths({"method": RANDOM}) if path != "method"])
def test_damaged_settings_are_refused_in_one_line(save, path):
    for value in (None, 3, "x", [], {}, [1], {"a": 1}):
        file = save(settings_with(path, value))
        with suppress_one_line():
            load_method(file)


def test_the_name_and_the_way_to_trust_a_package_are_in_the_line(save):
    file = save(settings_with("method.backbone", {"_target_": "planted.Norm"}))
    message = (
        "checkpoint=run.ckpt: its settings name planted.Norm, which could run any code; "
        "if you trust the file, try trusted_packages=[planted]"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_method(file)
    with pytest.raises(ConfigError, match="planted"):  # a package of a similar name is another one
        load_method(file, ["plant"])


def test_a_trusted_package_is_built(save, tmp_path):
    (tmp_path / "mine.py").write_text("from cim_lightning.models.timm_backbone import TimmBackbone as Mine\n")
    file = save(settings_with("method.backbone._target_", "mine.Mine"))
    weights = read_weights(file)
    assert isinstance(weights, RunCheckpoint)
    with pytest.raises(ConfigError, match=r"do not fit Random with the settings in it"):
        load(weights, trusted_packages=["mine"])  # built; the checkpoint of this test has no tensors


def test_settings_of_the_configuration_are_trusted():
    assert {RANDOM["_target_"], TINY["_target_"], FOLDER["source"]["_target_"]} <= conf_targets()
    check_trusted(settings_with("data.root", "images"), "run.ckpt")
    for target in conf_targets():
        if target.startswith("kornia.augmentation."):
            assert issubclass(get_object(target), AugmentationBase2D)
        else:  # a class or function that this project defines
            assert target.startswith("cim_lightning.")
            assert get_object(target).__module__ == target.rpartition(".")[0]


def test_all_targets_are_found_at_any_depth():
    nested = {"_target_": "a.b", "x": [{"_target_": "c"}, ({"y": {"_target_": "d"}},)], "z": {"_target_": 5}}
    assert list(targets(nested)) == ["a.b", "c", "d", 5]


def test_the_configuration_beside_an_export_is_checked_too(tmp_path):
    from cim_lightning.formats.timm_format import TimmFormat
    from cim_lightning.models.timm_backbone import TimmBackbone

    TimmFormat(0).write(TimmBackbone("test_resnet"), 32, tmp_path)
    hostile = settings_with("data.source", {"_target_": "os.mkdir", "path": "executed"})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(hostile))
    cfg = OmegaConf.create({"data": {"view_size": None, "cropping": None}})
    with pytest.raises(ConfigError, match=r"^checkpoint=\S+config\.yaml: its settings name os\.mkdir, which"):
        fill_from_checkpoint(cfg, read_weights(str(tmp_path)))
    for text in ("data: [", "[1, 2]", "method: {}", "\x00"):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"config\.yaml: cannot be read as the settings of a run; try"):
            fill_from_checkpoint(cfg, read_weights(str(tmp_path)))
