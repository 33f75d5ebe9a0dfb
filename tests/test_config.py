"""Every shipped file composes into a configuration that its classes accept."""

import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from cim_lightning import config
from cim_lightning.errors import SettingError

GROUPS = [folder for folder in sorted(config.CONF.iterdir()) if folder.is_dir()]
FILES = [
    f"{folder.name}={file.stem}"
    for folder in GROUPS
    if folder.name not in ("experiment", "hydra")
    for file in sorted(folder.glob("[!_]*.yaml"))
]
NESTED = [
    f"{file.parent.relative_to(config.CONF)}={file.stem}"
    for folder in GROUPS
    if folder.name != "hydra"
    for file in sorted(folder.glob("*/[!_]*.yaml"))
]
EXPERIMENTS = sorted(file.stem for file in (config.CONF / "experiment").glob("*.yaml"))


def composed(*overrides: str, folder: Path = config.CONF) -> DictConfig:
    """Composes as the door does, but for a folder that Hydra would name."""
    config.register_resolvers()
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose("pretrain", ["paths.run=run", *overrides])


@pytest.mark.parametrize("choice", [*FILES, *NESTED])
def test_every_file_of_every_group_is_accepted(choice):
    cfg = composed(choice)
    if OmegaConf.is_missing(cfg.data, "root"):
        cfg = composed(choice, "data.root=/images")
    config.check(cfg)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_accepted(experiment):
    cfg = composed(f"experiment={experiment}")
    if OmegaConf.is_missing(cfg.data, "root"):
        cfg = composed(f"experiment={experiment}", "data.root=/images")
    config.check(cfg)
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_wins_over_groups_and_door(experiment):
    cfg = composed(f"experiment={experiment}")
    written = OmegaConf.load(config.CONF / "experiment" / f"{experiment}.yaml")
    values = [(path, value) for path, value in leaves(written) if not path.startswith("defaults")]
    assert values
    for path, value in values:
        assert OmegaConf.select(cfg, path) == value, path


def test_an_experiment_wins_over_a_setting_of_the_door_itself(tmp_path):
    folder = tmp_path / "conf"
    shutil.copytree(config.CONF, folder)
    (folder / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    assert composed("experiment=mine", folder=folder).seed == 7
    assert composed("experiment=mine", "seed=8", folder=folder).seed == 8


def leaves(node: DictConfig, path: str = "") -> list[tuple[str, object]]:
    found = []
    for key in node:
        whole = f"{path}.{key}" if path else str(key)
        if isinstance(node[key], DictConfig):
            found += leaves(node[key], whole)
        else:
            found.append((whole, node[key]))
    return found


def test_the_paper_is_the_default():
    cfg = composed()
    assert (cfg.cropping.num_exemplars, cfg.cropping.context_size, cfg.cropping.exemplar_size) == (6, 160, 64)
    assert (cfg.decoder.width, cfg.decoder.depth, cfg.decoder.num_heads) == (512, 1, 16)
    assert (cfg.method.momentum, cfg.trainer.max_epochs, cfg.backbone.name) == (
        0.99,
        300,
        "vit_base_patch16_224",
    )


def test_the_data_read_the_one_cropping_and_seed():
    cfg = composed("cropping.num_exemplars=3", "seed=5")
    assert cfg.data.cropping.num_exemplars == cfg.method.constant.cropping.num_exemplars == 3
    assert cfg.data.seed == 5


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("+callbacks.last.minutes=3", ["callbacks.last.minutes", "LastCheckpoint", "every_minutes"]),
        ("trainer.devices=[a]", ["trainer.devices=['a']", "list[int]", "trainer.devices=auto"]),
        ("++nothing=3", ["nothing", "nothing reads it"]),
        ("method.momentum=null", ["method.momentum=None", "float", "method.momentum=0.99"]),
        ("callbacks.panels.num_images=1.5", ["callbacks.panels.num_images=1.5", "int", "=4"]),
        ("cropping.appearance.jitter=[1]", ["cropping.appearance.jitter=[1]", "float", "=0.8"]),
        ("cropping.scale=[a,b]", ["cropping.scale=['a', 'b']", "list[float]"]),
    ],
)
def test_a_setting_is_held_against_the_signature(override, parts):
    with pytest.raises(SettingError) as caught:
        config.check(composed(override))
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "override", ["method.momentum=1", "cropping.rotation=10.5", "cropping.appearance=null"]
)
def test_whole_numbers_are_numbers_and_null_is_a_choice(override):
    config.check(composed(override))


def test_a_class_that_is_broken_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_class.py").write_text("import not_installed_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError):
        config.check(composed("+callbacks.mine._target_=broken_class.Mine"))


def test_the_configuration_ships_in_the_wheel():
    assert (config.CONF / "pretrain.yaml").is_file()
    project = Path(__file__).parents[1] / "pyproject.toml"
    assert '"conf" = "cim_lightning/conf"' in project.read_text()


@pytest.mark.parametrize(
    ("given", "choices", "expected"),
    [
        ("resnet5O", ["resnet18", "resnet50", "swin"], "nearest: resnet50"),
        ("zzz", ["b", "a"], "choices: a, b"),
    ],
)
def test_the_nearest_choice_is_named_or_all_are(given, choices, expected):
    assert config.nearest(given, choices) == expected
