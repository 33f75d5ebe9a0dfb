"""What a run leaves besides its weights: an evaluation where one is asked for, whatever the method."""

import json
import math
from pathlib import Path

import pytest

METHODS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "method").glob("*.yaml"))
SMALL = [  # of every method, images of 32 pixels
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
def test_any_method_is_trained_kept_and_judged_by_the_same_doors(
    method, own, run_pretrain, photos, tmp_path, capfd
):
    arguments = [f"method={method}", *SMALL, *own[method], f"data.root={photos}", "output_dir=run"]
    run_pretrain(*arguments, "evaluation=[knn]")
    run = tmp_path / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    seen = 0 if method == "random" else 2 * 5 * 8
    assert (metrics["images_seen"], metrics["train_images"]) == (seen, 43)
    assert (metrics["forward_flops_per_image"] > 0) == (method != "random")
    assert metrics["peak_memory_bytes"] > 0
    assert (run / "backbone.safetensors").exists()
    first = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert 0 <= first["knn/mean_k1"] <= 1

    capfd.readouterr()
    run_pretrain(*arguments, "evaluation=[knn,representation]", "evaluation.representation.num_images=8")
    said = capfd.readouterr().out
    assert "holds this run, finished" in said
    assert "knn: done before" in said
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


@pytest.mark.parametrize("method", ["moco_v3", "cim"])
def test_features_do_not_collapse_in_a_short_run(method, own, run_pretrain, tmp_path):
    """Collapsed, all features are alike: a rank near 1 and no spread; but the loss is to fall."""
    run_pretrain(f"method={method}", *SMALL, *own[method], *SCENES, "output_dir=run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["val/effective_rank"] > 4
    assert metrics["val/feature_std"] > 0.2 * metrics["initial/feature_std"] > 0
    assert metrics["val/loss"] < 0.95 * metrics["initial/loss"]


@pytest.mark.parametrize("centered", [True, False])
def test_dino_keeps_its_prototypes_apart_by_centering_and_collapses_without(
    centered, own, run_pretrain, tmp_path
):
    """A sharp target alone gives every image one prototype; a center that never moves is no center."""
    sharp = ["method.target_temperature=[0.01,0.01]", f"method.center_momentum={0.9 if centered else 1.0}"]
    run_pretrain("method=dino", *SMALL, *own["dino"], *SCENES, *sharp, "output_dir=run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    if centered:
        assert metrics["val/target_perplexity"] > 16  # of 64, over all images
        assert metrics["val/target_entropy"] < 0.8 * math.log(64)  # and not all of them for each
    else:
        assert metrics["val/target_perplexity"] < 2
        assert metrics["val/target_entropy"] < 0.1


def test_a_recipes_evaluation_is_left_out_by_an_empty_list(run_pretrain, photos, tmp_path):
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
def test_mae_wants_a_vit_and_says_so_in_one_line(backbone, run_pretrain, photos, capfd):
    small = [a for a in SMALL if not a.startswith("backbone")]
    with pytest.raises(SystemExit) as ended:
        run_pretrain("method=mae", f"backbone={backbone}", *small, f"data.root={photos}", "output_dir=run")
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("cim-pretrain: method=mae: leaves patches out, which a ViT can and backbone.name=")
    assert line.endswith("try backbone=vit_small_patch16, or method=simmim")


@pytest.mark.parametrize("backbone", ["resnet18", "swin_tiny"])
@pytest.mark.parametrize("method", ["simmim", "moco_v3", "dino"])
def test_other_families_take_a_step_of_every_other_method(
    method, backbone, own, run_pretrain, photos, tmp_path
):
    small = [a for a in SMALL if not a.startswith(("backbone", "data.view_size"))]
    kept = [a for a in own[method] if not a.startswith("cropping")]
    sizes = {
        "simmim": ["cropping.mask_patch_size=16"],
        "dino": ["cropping.small.size=32", "cropping.small.count=1"],
    }
    more = ["data.view_size=64", "trainer.max_steps=1", "callbacks.knn=null", "output_dir=run"]
    run_pretrain(
        f"method={method}",
        f"backbone={backbone}",
        *small,
        *kept,
        *sizes.get(method, []),
        *more,
        f"data.root={photos}",
    )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["steps"] == 1
    assert metrics["train/loss"] > 0
