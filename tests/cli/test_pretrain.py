"""`cim-pretrain` with every method: training, export, evaluation, and no collapse."""

import json
import math
from pathlib import Path

import pytest

METHODS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "method").glob("*.yaml"))
SMALL = [  # for every method, images of 32 pixels
    "backbone=vit_micro_patch4",
    "backbone.kwargs.depth=1",
    "backbone.kwargs.embed_dim=32",
    "data=folder",
    "data.view_size=32",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    "logger=[csv]",
    "callbacks.panels=null",
]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_exports_and_evaluates(
    method, method_overrides, run_pretrain, photos, tmp_path, capfd
):
    arguments = [
        f"method={method}",
        *SMALL,
        *method_overrides[method],
        f"data.root={photos}",
        "output_dir=run",
    ]
    run_pretrain(*arguments, "evaluation=[knn]")
    run = tmp_path / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    seen = 0 if method == "random" else 2 * 5 * 8
    assert (metrics["images_seen"], metrics["train_images"]) == (seen, 43)
    assert (metrics["forward_flops_per_image"] > 0) == (method != "random")
    assert metrics["peak_memory_bytes"] > 0
    assert (run / "backbone.safetensors").exists()
    first = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert 0 <= first["knn/mean_k1"] <= 100  # %

    capfd.readouterr()
    run_pretrain(*arguments, "evaluation=[knn,representation]", "evaluation.representation.num_images=8")
    printed = capfd.readouterr().out
    assert "already finished" in printed
    assert "knn: cached" in printed
    second = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert second["knn/mean_k1"] == first["knn/mean_k1"]
    assert second["representation/effective_rank"] >= 1


SCENES = [
    "data=synthetic",
    "data.source.num_train=640",
    "data.source.num_val=64",
    "data.source.image_size=32",
    "data.batch_size=32",
    "trainer.max_epochs=4",
    "optim.base_lr=8.0e-3",
]


@pytest.mark.parametrize("method", [pytest.param("moco_v3", marks=pytest.mark.slow), "cim"])
def test_features_do_not_collapse_in_a_short_run(method, method_overrides, run_pretrain, tmp_path):
    """Collapsed features have a rank near 1 and no spread. The loss has to fall."""
    run_pretrain(f"method={method}", *SMALL, *method_overrides[method], *SCENES, "output_dir=run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["val/effective_rank"] > 4
    assert metrics["val/feature_std"] > 0.2 * metrics["initial/feature_std"] > 0
    assert metrics["val/loss"] < 0.95 * metrics["initial/loss"]


@pytest.mark.slow
@pytest.mark.parametrize("centered", [True, False])
def test_dino_collapses_without_centering(centered, method_overrides, run_pretrain, tmp_path):
    """With a sharp target only, all images get one prototype. Momentum 1 never updates the center."""
    sharp = ["method.target_temperature.start=0.01", "method.target_temperature.end=0.01"]
    sharp += [f"method.center_momentum={0.9 if centered else 1.0}"]
    run_pretrain("method=dino", *SMALL, *method_overrides["dino"], *SCENES, *sharp, "output_dir=run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    if centered:
        assert metrics["val/target_perplexity"] > 16  # of 64 prototypes, over all images
        assert metrics["val/target_entropy"] < 0.8 * math.log(64)  # few of them per image
    else:
        assert metrics["val/target_perplexity"] < 2
        assert metrics["val/target_entropy"] < 0.1


def test_an_empty_list_removes_the_evaluation_of_a_recipe(run_pretrain, photos, tmp_path):
    run_pretrain(
        "experiment=compare/cifar10_cpu",
        "compare=cifar10_cpu/random",
        f"data.root={photos}",
        "data.num_workers=0",
        "evaluation=[]",
        "data.batch_size=8",
        "trainer.log_every_n_steps=1",
        "output_dir=run",
    )
    assert (tmp_path / "run" / "metrics.json").exists()
    assert not (tmp_path / "run" / "evaluation").exists()


@pytest.mark.parametrize("backbone", ["resnet18", "swin_tiny", "convnext_tiny"])
def test_mae_without_a_vit_gets_one_line(backbone, run_pretrain, photos, capfd):
    small = [a for a in SMALL if not a.startswith("backbone")]
    with pytest.raises(SystemExit) as ended:
        run_pretrain("method=mae", f"backbone={backbone}", *small, f"data.root={photos}", "output_dir=run")
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("cim-pretrain: backbone.name=")
    assert "is not a ViT" in line
    assert line.endswith("try a vision transformer, or the method simmim")


@pytest.mark.parametrize("backbone", ["resnet18", "swin_tiny"])
@pytest.mark.parametrize("method", ["simmim", "moco_v3", "dino"])
def test_other_backbones_take_a_step_of_every_other_method(
    method, backbone, method_overrides, run_pretrain, photos, tmp_path
):
    small = [a for a in SMALL if not a.startswith(("backbone", "data.view_size"))]
    overrides = [a for a in method_overrides[method] if not a.startswith("cropping")]
    sizes = {
        "simmim": ["cropping.mask_patch_size=16"],
        "dino": ["cropping.local_crop.size=32", "cropping.num_local_crops=1"],
    }
    more = ["data.view_size=64", "trainer.max_steps=1", "callbacks.knn=null", "output_dir=run"]
    run_pretrain(
        f"method={method}",
        f"backbone={backbone}",
        *small,
        *overrides,
        *sizes.get(method, []),
        *more,
        f"data.root={photos}",
    )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["steps"] == 1
    assert metrics["train/loss"] > 0


def test_a_budget_for_another_number_of_processes_is_refused(run_pretrain, tiny, monkeypatch, capfd):
    monkeypatch.setattr("cim_lightning.cli.pretrain.num_processes", lambda trainer: 2)
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*[o for o in tiny if "max_epochs" not in o], "budget=images", "budget.images=64")
    assert ended.value.code == 2
    assert (
        "trainer.devices=1: the budget is planned for 2 processes, but Lightning starts 1"
        in capfd.readouterr().err
    )
