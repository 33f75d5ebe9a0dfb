"""Comparisons in conf/experiment/compare: their methods, equal conditions, and the table."""

import csv
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from cim_lightning.budget import Budget
from cim_lightning.config import consistency, validate
from cim_lightning.config.call_signatures import check_calls
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.config.doubtful_settings import doubtful_settings
from cim_lightning.config.from_checkpoint import build

RECIPES = sorted(file.stem for file in (CONF / "experiment" / "compare").glob("*.yaml"))
METHODS = sorted(file.stem for file in (CONF / "method").glob("*.yaml"))
ENTRANTS = [(recipe, method) for recipe in RECIPES for method in METHODS]


def composed(*overrides: str, hydra: bool = False) -> DictConfig:
    register_resolvers()
    given = ["data=folder", "data.root=/images", "paths.run=run", "output_dir=here", *overrides]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("pretrain", given, return_hydra_config=hydra)
        if hydra:
            OmegaConf.resolve(cfg.hydra.sweeper.params)
        return cfg


@pytest.mark.parametrize(("recipe", "method"), ENTRANTS)
def test_the_settings_of_every_method_are_valid(recipe, method):
    cfg = composed(f"experiment=compare/{recipe}", f"compare={recipe}/{method}")
    validate.check(cfg, "pretrain")
    consistency.check_pretraining(cfg)
    check_calls(cfg)
    assert doubtful_settings(cfg, []) == []
    plain = composed(f"method={method}")
    assert cfg.method._target_ == plain.method._target_
    written: Any = OmegaConf.to_container(OmegaConf.load(CONF / "compare" / recipe / f"{method}.yaml"))
    for group in ("data", "optim", "cropping", "method", "decoder", "target"):
        for key, value in (written.get(group) or {}).items():
            if not isinstance(value, dict) and not str(value).startswith("$"):
                assert cfg[group][key] == value, key


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_comparison_sweeps_over_every_method_and_several_seeds(recipe):
    swept = composed(f"experiment=compare/{recipe}", hydra=True).hydra.sweeper.params
    assert swept.compare.split(",") == [f"{recipe}/{method}" for method in METHODS]
    assert len(str(swept.seed).split(",")) >= 3


@pytest.mark.parametrize("recipe", RECIPES)
def test_all_methods_have_the_same_budget_backbone_data_and_evaluation(recipe):
    every = [composed(f"experiment=compare/{recipe}", f"compare={recipe}/{method}") for method in METHODS]
    for cfg in every:
        for group in ("budget", "evaluation", "callbacks", "trainer"):
            assert cfg[group] == every[0][group]
        cfg.backbone.freeze_patch_embed = None  # depends on the method: MoCo v3 and CIM freeze it
        assert cfg.backbone == every[0].backbone
        assert cfg.data.view_size == every[0].data.view_size
        assert cfg.optim.keys() == every[0].optim.keys()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_search_of_rates_is_measured_on_training_images(recipe):
    cfg = composed(f"experiment=[compare/{recipe},search/rates]", f"compare={recipe}/mae", hydra=True)
    assert (cfg.data.val, cfg.data.source.val_fraction) == ("random", 0.1)
    assert instantiate(cfg.budget) == Budget(petaflop=0.003)
    evaluated = [name for name, evaluator in cfg.evaluation.items() if "_target_" in evaluator]
    assert sorted(evaluated) == ["knn", "linear"]
    compared = composed(f"experiment=compare/{recipe}", hydra=True).hydra.sweeper.params
    searched = cfg.hydra.sweeper.params
    assert searched.compare == compared.compare
    assert str(searched.seed) not in str(compared.seed).split(",")


@pytest.mark.parametrize(
    ("recipe", "method"), [entrant for entrant in ENTRANTS if "imagenette" in entrant[0]]
)
def test_every_method_has_a_loss_and_gradients_on_its_views(recipe, method):
    """The images, patches and crops have the sizes of the recipe; the backbone is small."""
    small = [f"++backbone.kwargs.{size}" for size in ("depth=1", "embed_dim=48", "num_heads=3")]
    cfg = composed(f"experiment=compare/{recipe}", f"compare={recipe}/{method}", *small)
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    cropping, built = (build(OmegaConf.create(settings[group])) for group in ("cropping", "method"))
    views = torch.randint(0, 256, (2, 3, *2 * [cfg.data.view_size]), dtype=torch.uint8)
    crops = cropping(views, 0)
    built.prepare(crops, 10)
    loss = built.compute_batch_losses((crops, torch.tensor([3, 7])))["loss"]
    assert loss.isfinite()
    if method != "random":
        loss.backward()
        gradients = [p.grad for p in built.backbone.parameters() if p.grad is not None]
        assert any(gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.slow
def test_a_comparison_writes_one_table_of_all_methods(run_pretrain, photos, tmp_path, capfd):
    run_pretrain(
        "-m",
        "experiment=compare/cifar10_cpu",
        "seed=0",
        f"data.root={photos}",
        "data.num_workers=0",
        "data.batch_size=8",
        "backbone.kwargs.depth=1",
        "backbone.kwargs.embed_dim=32",
        "budget.petaflop=2.0e-6",
        "trainer.log_every_n_steps=1",
        "callbacks.panels=null",
        "evaluation.linear.epochs=2",
        "evaluation.attentive.epochs=1",
        f"output_dir={tmp_path / 'sweep'}",
    )
    printed = capfd.readouterr().out
    assert (tmp_path / "sweep" / "table.md").read_text().strip() in printed
    rows = list(csv.DictReader((tmp_path / "sweep" / "table.csv").read_text().splitlines()))
    assert sorted(row["setting"] for row in rows) == METHODS
    for row in rows:
        trained = row["setting"] != "random"
        assert 0 <= float(row["k-NN, mean, k = 20, %"]) <= 100
        assert 0 <= float(row["probe, mean, %"]) <= 100
        assert (row["skill"] != "") == (row["setting"] == "cim")
        assert (float(row["GFLOP/image"]) > 0) == trained
        steps = float(row["TFLOP total"]) / float(row["GFLOP/image"]) * 1000 / 8 if trained else 0
        assert float(row["TFLOP total"]) <= 2e-3
        assert not trained or float(row["TFLOP total"]) > 2e-3 * (1 - 1 / steps) - 1e-9
    assert len({row["online k-NN before, %"] for row in rows}) == 1  # one seed, one initialization
