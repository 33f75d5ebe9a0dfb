"""Every shipped file composes into a valid configuration."""

import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from cim_lightning.config import consistency, validate
from cim_lightning.config.call_signatures import check_calls
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.config.constructor_checks import run_checks
from cim_lightning.config.doubtful_settings import doubtful_settings
from cim_lightning.errors import ConfigError

GROUPS = [folder for folder in sorted(CONF.iterdir()) if folder.is_dir()]
OTHER_COMMANDS = (
    "classifier",
    "evaluation",
    "format",
    "protocol",
    "task",
)  # groups whose own tests compose them
FILES = [
    f"{folder.name}={file.stem}"
    for folder in GROUPS
    if folder.name not in ("compare", "experiment", "hydra", *OTHER_COMMANDS)
    for file in sorted(folder.glob("[!_]*.yaml"))
]
NESTED = [
    f"{file.parent.relative_to(CONF)}={file.stem}"
    for folder in GROUPS
    if folder.name not in ("compare", "experiment", "hydra")
    for file in sorted(folder.glob("*/[!_]*.yaml"))
]
RECIPES = {file.stem: file.read_text() for file in sorted((CONF / "experiment").glob("*.yaml"))}
FINETUNING = [name for name, text in RECIPES.items() if "# Command   cim-evaluate" in text]
EXPERIMENTS = [name for name in RECIPES if name not in FINETUNING]
EVALUATIONS = sorted(f"evaluate/{file.stem}" for file in (CONF / "experiment/evaluate").glob("*.yaml"))
CLASSIFIERS = sorted(file.stem for file in (CONF / "classifier").glob("*.yaml"))


def composed(*overrides: str, folder: Path = CONF) -> DictConfig:
    """Compose as the command does, except for the folder of the run."""
    register_resolvers()
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose("pretrain", ["paths.run=run", *overrides])


@pytest.mark.parametrize("choice", [*FILES, *NESTED])
def test_every_file_of_every_group_is_valid(choice):
    cfg = composed(choice)
    for key in OmegaConf.missing_keys(cfg):
        OmegaConf.update(cfg, key, 1 if key.startswith("budget") else "/images")
    validate.check(cfg, "pretrain")
    consistency.check_pretraining(cfg)
    if choice.startswith("method="):
        check_calls(cfg)


def composed_evaluate(*overrides: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        given = ["paths.run=run", "data=folder", "data.root=/images", "data.view_size=32"]
        given += ["data.channels=3", "data.bits=8"]
        cfg = compose("evaluate", [*given, "checkpoint=untrained", *overrides])
    for key in OmegaConf.missing_keys(cfg):  # folders of the user
        OmegaConf.update(cfg, key, {"a": "/images"} if key.endswith("roots") else "/images")
    cfg.data.cropping = composed().cropping
    validate.check(cfg, "evaluate")
    return cfg


@pytest.mark.parametrize("part", sorted(file.stem for file in (CONF / "evaluation").glob("*.yaml")))
def test_every_evaluator_is_valid(part):
    composed_evaluate(f"evaluation={part}")


@pytest.mark.parametrize("choice", sorted(file.stem for file in (CONF / "protocol").glob("*.yaml")))
def test_every_protocol_is_valid(choice):
    assert composed_evaluate("evaluation=knn", f"protocol={choice}").protocol.size == 32


@pytest.mark.parametrize("choice", CLASSIFIERS)
@pytest.mark.parametrize("part", ["finetune", "robustness", "domain_shift", "imagenet_c", "variants"])
def test_every_classifier_is_valid_in_every_evaluator_with_one(part, choice):
    cfg = composed_evaluate(f"evaluation={part}", f"classifier@evaluation.{part}.classifier={choice}")
    written = OmegaConf.load(CONF / "classifier" / f"{choice}.yaml")
    for path, value in leaves(written):
        if not path.startswith("defaults"):
            assert OmegaConf.select(cfg.evaluation[part].classifier, path) == value


@pytest.mark.parametrize("experiment", [*EVALUATIONS, *FINETUNING])
def test_every_recipe_of_an_evaluation_is_valid(experiment):
    cfg = composed_evaluate(f"experiment={experiment}")
    written = OmegaConf.load(CONF / "experiment" / f"{experiment}.yaml")
    for path, value in leaves(written):
        if not path.startswith("defaults"):
            assert OmegaConf.select(cfg, path) == value, path


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_valid(experiment):
    cfg = composed(f"experiment={experiment}")
    if OmegaConf.is_missing(cfg.data, "root"):
        cfg = composed(f"experiment={experiment}", "data.root=/images")
    validate.check(cfg, "pretrain")
    consistency.check_pretraining(cfg)
    check_calls(cfg)
    assert doubtful_settings(cfg, []) == []
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_overrides_the_groups(experiment):
    cfg = composed(f"experiment={experiment}")
    written = OmegaConf.load(CONF / "experiment" / f"{experiment}.yaml")
    values = [(path, value) for path, value in leaves(written) if not path.startswith("defaults")]
    assert values
    for path, value in values:
        assert OmegaConf.select(cfg, path) == value, path


def test_an_experiment_overrides_a_top_level_setting(tmp_path):
    folder = tmp_path / "conf"
    shutil.copytree(CONF, folder)
    (folder / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    assert composed("experiment=mine", folder=folder).seed == 7
    assert composed("experiment=mine", "seed=8", folder=folder).seed == 8


def leaves(node: DictConfig, path: str = "") -> list[tuple[str, object]]:
    found = []
    for key in node:
        child = f"{path}.{key}" if path else str(key)
        if isinstance(node[key], DictConfig):
            found += leaves(node[key], child)
        else:
            found.append((child, node[key]))
    return found


def test_the_paper_is_the_default():
    cfg = composed()
    assert (cfg.cropping.num_exemplars, cfg.cropping.context_size, cfg.cropping.exemplar_size) == (6, 160, 64)
    assert (cfg.decoder.width, cfg.decoder.depth, cfg.decoder.num_heads) == (512, 1, 16)
    assert (cfg.target.momentum, cfg.trainer.max_epochs, cfg.backbone.name) == (
        0.99,
        300,
        "vit_base_patch16_224",
    )


@pytest.mark.parametrize(
    ("choices", "unit"),
    [
        (["method=mae"], 16),
        (["method=mae", "backbone=vit_small_patch8"], 8),
        (["method=mae", "backbone=vit_small_patch16", "backbone.name=vit_small_patch32_224"], 32),
        (["method=simmim"], 32),
        (["method=simmim", "backbone=vit_micro_patch4"], 8),
        (["method=simmim", "backbone=swin_tiny"], 32),
        (["method=simmim", "backbone=resnet50"], 32),
        (["method=mae", "cropping.mask_patch_size=24"], 24),
    ],
)
def test_masks_are_multiples_of_the_patch_size(choices, unit):
    assert composed(*choices).cropping.mask_patch_size == unit


@pytest.mark.parametrize(("own", "pixels"), [({"patch_size": 6}, 12), ({"width": 6}, 32)])
def test_an_own_backbone_may_say_its_patch_size(own, pixels):
    register_resolvers()
    backbone = {"_target_": "mine.backbone", **own}
    cfg = OmegaConf.create({"backbone": backbone, "side": "${cim.patch_pixels:${backbone},2}"})
    assert cfg.side == pixels


def test_the_data_have_the_cropping_and_the_seed():
    cfg = composed("cropping.num_exemplars=3", "seed=5")
    assert cfg.data.cropping.num_exemplars == cfg.method.baseline.cropping.num_exemplars == 3
    assert cfg.data.seed == 5


def test_the_configuration_ships_in_the_wheel():
    assert (CONF / "pretrain.yaml").is_file()
    project = Path(__file__).parents[2] / "pyproject.toml"
    assert '"conf" = "cim_lightning/conf"' in project.read_text()


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_a_checkpoint_of_null_is_named(command):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(command, ["checkpoint=null"])
    node = OmegaConf.create({"checkpoint": None, "folder": "${cim.output_dir:${checkpoint}}"})
    assert node.folder == "outputs/null-evaluation"  # Hydra needs it before the check
    with pytest.raises(ConfigError, match=r"^checkpoint=null: must be str$"):
        validate.check(cfg, command, incomplete=["data"])


@pytest.mark.parametrize("source", ["folder", "webdataset"])
def test_the_share_of_a_random_split_is_checked_without_imports(source):
    with pytest.raises(ConfigError, match=r"^val_fraction=-7: must be above 0 and below 1"):
        run_checks(f"cim_lightning.data.{source}.{source}", {"val_fraction": -7}, partial=True)
