"""Commands: the files of a run, and the one line about a user's error."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

PRETRAIN = Path(sys.executable).with_name("cim-pretrain")

# Arguments, and what their line must have: the setting with its value, the rule, and a suggestion.
MISTAKES = {
    "group value": (["data=foldr"], ["data=foldr", "did you mean data=folder?"]),
    "group value in a list": (["logger=[csv,wandbb]"], ["logger=wandbb", "did you mean logger=wandb?"]),
    "experiment": (["experiment=cifar10"], ["experiment=cifar10:", "did you mean experiment=cifar10_cpu?"]),
    "experiment in a misspelled folder": (
        ["experiment=ablaton/rotation"],
        ["experiment=ablaton/rotation", "did you mean experiment=ablation/rotation?"],
    ),
    "several values": (["seed=0,1"], ["seed=0,1: several values", "try cim-pretrain -m seed=0,1"]),
    "key of Hydra": (["hydra.launcher.n_job=2"], ["hydra.launcher.n_job=2", "cim-pretrain --cfg=hydra"]),
    "group": (["dataa=folder"], ["dataa=folder", "try data=folder"]),
    "key": (["data.bacth_size=3"], ["data.bacth_size=3", "did you mean data.batch_size=3?"]),
    "key of another choice": (["data.rot=/x"], ["data.rot=/x", "did you mean data.root=/x?"]),
    "removed key": (["~data.foo"], ["~data.foo", "no such setting"]),
    "new top-level key": (["++modle.x=1"], ["modle={{x: 1}}: no such setting", "choose a backbone: "]),
    "new key of data": (
        ["+data.foo=1"],
        ["data.foo=1: ImageData has no such setting", "choose from", "num_workers"],
    ),
    "new key of a class": (
        ["+target.momentun=1"],
        ["target.momentun=1: EmaTarget has no such setting", "did you mean target.momentum=1?"],
    ),
    "forced key of a class": (
        ["++method.foo=1"],
        ["method.foo=1: CIM has no such setting", "choose from", "reduction"],
    ),
    "new key that exists": (["+data.batch_size=3"], ["+data.batch_size=3", "try data.batch_size=3"]),
    "new group that exists": (["+experiment=demo"], ["+experiment=demo", "try experiment=demo"]),
    "new architecture setting": (["backbone.kwargs.foo=1"], ["foo=1", "add it: +backbone.kwargs.foo="]),
    "word for an int": (
        ["data.batch_size=abc"],
        ["data.batch_size=abc", "int", "data.batch_size=256"],
    ),
    "word for a number of epochs": (["trainer.max_epochs=ten"], ["trainer.max_epochs=ten", "int", "=300"]),
    "number for a range": (["cropping.scale=3"], ["cropping.scale=3", "list[float]", "[0.05, 0.48]"]),
    "word for a learning rate": (
        ["optim.base_lr=fast"],
        ["optim.base_lr=fast", "float", "optim.base_lr=0.00015"],
    ),
    "word for a seed": (["seed=abc"], ["seed=abc", "int", "try seed=0"]),
    "word for a bool": (["compile=maybe"], ["compile=maybe: must be bool; leave it out"]),
    "negative seed": (["seed=-1"], ["seed=-1", "try seed=0"]),
    "malformed": (["data.batch_size=[1,"], ["data.batch_size=[1,:", "key=value"]),
    "no value": (["data.batch_size"], ["data.batch_size:", "EQUAL", "key=value"]),
    "no root": (["~data.root"], [": data.root: this data set needs it; try data.root=..."]),
    "missing setting": (["~callbacks.knn.k"], ["callbacks.knn.k", "left out", "callbacks.knn.k=20"]),
    "bool for an int": (["data.batch_size=true"], ["data.batch_size=true", "int", "=256"]),
    "seed above the maximum of NumPy": (
        ["seed=5000000000"],
        ["seed=5000000000: must be in 0..4294967295; try seed=4294967295"],
    ),
    "one beta": (["optim.betas=[0.9]"], ["optim.betas=[0.9]", "[0.9, 0.95]"]),
    "beta of 1": (["optim.betas=[0.9,1]"], ["optim.betas=[0.9, 1]", "[0.9, 0.95]"]),
    "interval of 0": (
        ["callbacks.knn.every_n_epochs=0"],
        ["callbacks.knn.every_n_epochs=0", "try callbacks.knn.every_n_epochs=1"],
    ),
    "no neighbors": (["callbacks.knn.num_val=0"], ["callbacks.knn.num_val=0", "try callbacks.knn.num_val=1"]),
    "exemplar of incomplete patches": (
        ["cropping.exemplar_size=15"],
        ["cropping.exemplar_size=15", "patches of 4", "try cropping.exemplar_size=16"],
    ),
    "view of incomplete patches": (
        ["data.view_size=34"],
        ["data.view_size=34", "patches of 4", "try data.view_size=32"],
    ),
    "precision": (["trainer.precision=bf16-true"], ["trainer.precision=bf16-true", "=bf16-mixed"]),
    "no accumulation": (
        ["trainer.accumulate_grad_batches=0"],
        ["trainer.accumulate_grad_batches=0", "at least 1", "try trainer.accumulate_grad_batches=1"],
    ),
    "no validation": (
        ["trainer.check_val_every_n_epoch=0"],
        ["trainer.check_val_every_n_epoch=0", "at least 1", "try trainer.check_val_every_n_epoch=1"],
    ),
    "negative MLP ratio": (["decoder.mlp_ratio=-1"], ["decoder.mlp_ratio=-1", "try decoder.mlp_ratio=4"]),
    "channels": (
        ["+backbone.kwargs.in_chans=1"],
        ["backbone.kwargs.in_chans=1", "channels of the images", "try data.channels=1"],
    ),
    "output folder inside a file": (
        ["output_dir={photos}/val/a/0.png/run"],
        ["output_dir={photos}/val/a/0.png/run", "written", "try"],
    ),
    "not a checkpoint": (["resume={photos}/val/a/0.png"], ["0.png", "is an image", "another checkpoint"]),
    "rotation": (["cropping.rotation=400"], [": cropping.rotation=400", "try cropping.rotation=180"]),
    "exemplar larger than view": (
        ["cropping.exemplar_size=64"],
        ["cropping.exemplar_size=64", "try cropping.exemplar_size=32"],
    ),
    "batch larger than data": (
        ["data.batch_size=4000"],
        ["data.batch_size=4000", "43 images", "try data.batch_size=43"],
    ),
    "rate": (["optim.base_lr=-1"], ["optim.base_lr=-1", "above 0", "try optim.base_lr=0.00015"]),
    "choice of a method": (["method.reduction=median"], ["method.reduction=median", "sum", "mean"]),
    "share": (["target.momentum=2"], ["target.momentum=2", "try target.momentum=1"]),
    "architecture": (["backbone.name=resnet5O"], [": backbone.name=resnet5O", "did you mean resnet50?"]),
    "view scale": (["data.view_scale=[2,3]"], ["data.view_scale=[2, 3]", "try data.view_scale=[0.5, 1.0]"]),
    "workers": (["data.num_workers=-1"], ["data.num_workers=-1", "try data.num_workers=0"]),
    "accelerator": (["trainer.accelerator=gpuu"], ["trainer", "gpuu", "cpu"]),
    "class": (["+callbacks.mine._target_=nowhere.Mine"], ["callbacks.mine._target_=nowhere.Mine", "nowhere"]),
    "checkpoint": (["resume=lost.ckpt"], ["resume=lost.ckpt", "try resume=auto"]),
    "folder": (["data.root={photos}x"], ["data.root={photos}x: does not exist", "did you mean {photos}?"]),
    "null for a group": (["callbacks=null"], ["callbacks=null", "[] for none", "callbacks=default"]),
    "number for a group": (["data=10"], ["data=10", "try data="]),
    "number for a group of folders": (["compare=5"], ["compare=5", "try compare=cifar10_cpu/cim"]),
    "target temperature": (
        [
            "method=dino",
            "cropping=multi_crop",
            "cropping.local_crop.size=16",
            "method.target_temperature.start=0",
        ],
        ["method.target_temperature.start=0", "above 0", "method.target_temperature.start=0.04"],
    ),
    "scale of one of two crops": (
        [
            "method=moco_v3",
            "cropping=two_views",
            "decoder=cross_attention",
            "cropping.global_crop_2.scale=[0.5,0.1]",
        ],
        [": cropping.global_crop_2.scale=[0.5, 0.1]", "try cropping.global_crop_2.scale="],
    ),
    "cropping of another method": (
        ["method=mae"],
        ["MAE needs a cropping that returns MaskedImages", "not Crops"],
    ),
    "mask cells of incomplete patches": (
        ["method=mae", "cropping=masked", "cropping.mask_patch_size=2"],
        ["mask_patch_size", "16 cells", "8 per side", "multiple of the patch size"],
    ),
    "decoder of another method": (
        ["method=dino", "cropping=multi_crop"],
        ["decoder.num_heads=2", "no such setting"],
    ),
    "setting of another method": (
        ["method.norm_pix_loss=true"],
        ["try method=mae method.norm_pix_loss=true"],
    ),
    "budget without a size": (["budget=images"], ["budget.images", "budget.images=..."]),
    "budget below a step": (
        ["budget=images", "budget.images=7", "trainer.max_epochs=null"],
        ["budget.images=7", "8 images", "try budget.images=8"],
    ),
    "file": (
        ["data.root={photos}/val/a/0.png"],
        ["data.root={photos}/val/a/0.png: is a file", "try data.root={photos}/val/a"],
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_gets_one_line(case, run_pretrain, tiny, photos, capfd):
    arguments, parts = MISTAKES[case]
    if case == "target temperature":  # a method without a decoder, whose settings would be refused first
        tiny = [override for override in tiny if not override.startswith("decoder.")]
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*tiny, "output_dir=run", *(argument.format(photos=photos) for argument in arguments))
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("cim-pretrain: ")
    for part in parts:
        assert part.format(photos=photos) in line
    assert not Path("run/checkpoints").exists()


def test_the_installed_script_reports_a_mistake_in_one_line(tiny, tmp_path):
    done = subprocess.run(
        [PRETRAIN, *tiny, "data.root=nowhere"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "data.root=nowhere: does not exist" in line


def test_an_error_with_running_workers_ends_the_process(tiny, tmp_path):
    lines = ["import lightning as L", "from cim_lightning.errors import ConfigError"]
    lines += [
        "class Stop(L.Callback):",
        "  def on_train_batch_end(self, *args): raise ConfigError('k', 1, 'ends here')",
    ]
    (tmp_path / "mine.py").write_text("\n".join(lines))
    command = [PRETRAIN, *tiny, "data.num_workers=1", "+callbacks.mine._target_=mine.Stop", "output_dir=run"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("=1: ends here")


def test_a_root_for_a_data_set_without_one_suggests_data_folder(run_pretrain, tiny, photos, capfd):
    arguments = [argument for argument in tiny if argument != "data=folder"]
    with pytest.raises(SystemExit):
        run_pretrain(*arguments)
    (line,) = capfd.readouterr().err.splitlines()
    assert f"data.root={photos}" in line
    assert f"try data=folder data.root={photos}" in line


def test_a_missing_root_is_reported(run_pretrain, tiny, capfd):
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*(argument for argument in tiny if not argument.startswith("data.root")))
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "data.root: has no default; set data.root=..." in line


def test_the_line_about_a_folder_without_images_lists_its_files(run_pretrain, tiny, tmp_path, capfd):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*tiny, f"data.root={tmp_path}/empty")
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"data.root={tmp_path}/empty: has no image" in line
    assert "1 .txt" in line


def test_home_is_expanded(run_pretrain, tiny, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        run_pretrain(*tiny, "data.root=~/images")
    assert f"{tmp_path}/images" in capfd.readouterr().err


def test_other_errors_keep_their_traceback(run_pretrain, tiny, monkeypatch):
    def broken(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("cim_lightning.callbacks.step_seed.StepSeed.on_train_batch_start", broken)
    with pytest.raises(ZeroDivisionError):
        run_pretrain(*tiny)


def test_a_run_writes_the_files_that_the_docs_list(run_pretrain, tiny, tmp_path, capfd):
    arguments = [argument for argument in tiny if argument != "callbacks.panels=null"]
    run_pretrain(*arguments, "trainer.max_steps=2", "callbacks.panels.num_images=1", "output_dir=run")
    run = tmp_path / "run"
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith((".hydra/", ".lock"))} == {
        "run.json",
        "config.yaml",
        "metrics.csv",
        "metrics.json",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        "backbone.safetensors",
        "backbone.json",
        "panels/step-00000000.png",
        "panels/step-00000002.png",
        "cim-pretrain.log",
    }
    assert "correlation skill" in capfd.readouterr().out
    config = (run / "config.yaml").read_text()
    assert "${" not in config
    assert "batch_size: 8" in config
    with Image.open(run / "panels" / "step-00000002.png") as panel:
        assert panel.convert("L").getextrema() != (255, 255)
    recipe = json.loads((run / "backbone.json").read_text())
    model = timm.create_model(**recipe["create_model"])
    model.load_state_dict(load_file(run / "backbone.safetensors"), strict=True)
    assert recipe["width"] == model.num_features == 32
    weights = torch.load(run / "checkpoints" / "last.ckpt")["state_dict"]
    assert torch.equal(model.state_dict()["norm.weight"], weights["backbone.model.norm.weight"])


def test_metrics_json_is_flat_and_has_the_origin(run_pretrain, tiny, tmp_path):
    run_pretrain(*tiny, "trainer.max_steps=2", "output_dir=run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert all(value is None or isinstance(value, int | float | str) for value in metrics.values())
    names = ("loss", "skill", "skill_swapped", "exemplar_sensitivity", "iou", "pointing", "knn", "knn_pooled")
    names += ("feature_std", "effective_rank")
    for name in names:
        assert {f"initial/{name}", f"val/{name}"} <= metrics.keys()
    assert {"train/loss", "train/lr", "train/momentum", "train/grad_norm"} <= metrics.keys()
    assert (metrics["steps"], metrics["images_seen"], metrics["devices"]) == (2, 16, 1)
    assert metrics["initial/loss"] != metrics["val/loss"]
    assert metrics["seconds"] > 0
    assert metrics["images_per_s"] == pytest.approx(16 / metrics["seconds"])
    assert metrics["peak_memory_bytes"] > 10_000_000
    assert "CPU" in metrics["device"]
    assert metrics["git_commit"] is None or re.fullmatch("[0-9a-f]{40}(-dirty)?", metrics["git_commit"])
    assert metrics["torch"] == torch.__version__.split("+")[0]
    assert metrics["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_multirun_makes_one_folder_per_job(run_pretrain, tiny, tmp_path):
    run_pretrain("-m", *tiny, "trainer.max_steps=1", "optim.weight_decay=0.05,0.1", "output_dir=sweep")
    for job, decay in (("0", "0.05"), ("1", "0.1")):
        folder = tmp_path / "sweep" / job
        assert f"weight_decay: {decay}\n" in (folder / "config.yaml").read_text()
        assert {"metrics.json", "metrics.csv", "backbone.safetensors"} <= {p.name for p in folder.iterdir()}


def test_wandb_writes_offline_without_a_prompt_when_not_logged_in(tiny, tmp_path):
    env = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "NETRC"))}
    arguments = [argument for argument in tiny if argument != "callbacks.panels=null"]
    done = subprocess.run(
        [PRETRAIN, *arguments, "logger=[csv,wandb]", "trainer.max_steps=2", "output_dir=run"],
        cwd=tmp_path,
        env=env | {"HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (record,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    assert list(record.glob("*.wandb"))
    assert list(record.glob("files/media/images/panels*.png"))
    assert (tmp_path / "run" / "metrics.json").exists()
