"""A setting that does not exist gets an override that can be copied."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from cim_lightning.close_names import closest, similarity
from cim_lightning.config import validate
from cim_lightning.config.choices import suggest_choice
from cim_lightning.config.compose import CONF, default_config, register_resolvers
from cim_lightning.config.flags import check_style, flags_first
from cim_lightning.config.suggestions import suggest_setting
from cim_lightning.errors import ConfigError

# What a user of another project types, and the override of this one.
PRETRAIN = """
lr=0.1 -> optim.base_lr=0.1
learning_rate=0.1 -> optim.base_lr=0.1
blr=1e-3 -> optim.base_lr=1e-3
optim.lr=0.1 -> optim.base_lr=0.1
wd=0.1 -> optim.weight_decay=0.1
weight_decay=0.1 -> optim.weight_decay=0.1
beta2=0.99 -> optim.betas=[0.9,0.99]
warmup_epochs=30 -> optim.warmup=0.1
optimizer=adamw -> optim=adamw
decoder.prior=constant -> decoder/prior=constant
method.contrast=global -> method/contrast=global
method.tokens.temperature=0.2 -> method/tokens=correlation method.tokens.temperature=0.2
scheduler=cosine -> optim=adamw
sched=cosine -> optim=adamw
epochs=5 -> trainer.max_epochs=5
num_epochs=5 -> trainer.max_epochs=5
trainer.epochs=5 -> trainer.max_epochs=5
steps=100 -> trainer.max_steps=100
iterations=100 -> trainer.max_steps=100
batch_size=4 -> data.batch_size=4
bs=4 -> data.batch_size=4
batch=4 -> data.batch_size=4
optim.batch_size=4 -> data.batch_size=4
workers=2 -> data.num_workers=2
num_workers=2 -> data.num_workers=2
model=vit -> backbone=vit_base_patch16
model=resnet50 -> backbone=resnet50
arch=vit_small_patch16_224 -> backbone=vit_small_patch16
encoder=vits16 -> backbone=vit_small_patch16
architecture=convnext -> backbone=convnext_tiny
dataset=cifar10 -> data=cifar10
dataset=/my/images -> data=folder data.root=/my/images
path=/x -> data=folder data.root=/x
dir=/x -> data=folder data.root=/x
root=/x -> data=folder data.root=/x
data_path=/x -> data=folder data.root=/x
data.path=/x -> data=folder data.root=/x
gpus=2 -> trainer.devices=2
devices=2 -> trainer.devices=2
gpu=1 -> trainer.devices=[1]
device=cpu -> trainer=cpu
nodes=2 -> +trainer.num_nodes=2
amp=true -> trainer.precision=16-mixed
fp16=1 -> trainer.precision=16-mixed
bf16=true -> trainer.precision=bf16-mixed
precision=16 -> trainer.precision=16-mixed
exp=cifar10_cpu -> experiment=cifar10_cpu
name=my_run -> logger.wandb.name=my_run
experiment_name=my_run -> logger.wandb.name=my_run
project=cim -> logger.wandb.project=cim
wandb=true -> logger=[csv,wandb]
wandb=false -> logger=csv
ema=0.99 -> target.momentum=0.99
momentum=0.99 -> target.momentum=0.99
teacher_momentum=0.99 -> target.momentum=0.99
img_size=96 -> data.view_size=96
image_size=96 -> data.view_size=96
input_size=96 -> data.view_size=96
resolution=96 -> data.view_size=96
crop_size=96 -> data.view_size=96
mask_ratio=0.6 -> method=mae cropping.mask_ratio=0.6
cropping.mask_ratio=0.6 -> method=mae cropping.mask_ratio=0.6
temperature=0.1 -> callbacks.knn.temperature=0.1
tau=0.1 -> callbacks.knn.temperature=0.1
clip_grad=3 -> trainer.gradient_clip_val=3
grad_clip=3 -> trainer.gradient_clip_val=3
accum_iter=4 -> trainer.accumulate_grad_batches=4
accum=4 -> trainer.accumulate_grad_batches=4
ckpt=x.ckpt -> resume=x.ckpt
checkpoint=x.ckpt -> resume=x.ckpt
pretrained=true -> backbone.weights=timm
weights=w.pth -> backbone.weights=w.pth
out=/x -> output_dir=/x
output=/x -> output_dir=/x
log_dir=/x -> output_dir=/x
save_dir=/x -> output_dir=/x
random_seed=3 -> seed=3
drop_path=0.1 -> +backbone.kwargs.drop_path_rate=0.1
data.bacth_size=4 -> data.batch_size=4
bathc_size=4 -> data.batch_size=4
optm.base_lr=1 -> optim.base_lr=1
outptu_dir=x -> output_dir=x
callback.knn.k=3 -> callbacks.knn.k=3
callbacks.knn.neighbors=3 -> callbacks.knn.k=3
model.name=x -> backbone.name=x
method.norm_pix_loss=true -> method=mae method.norm_pix_loss=true
"""
OTHERS = {
    "evaluate": """
lr=0.1 -> evaluation.linear.lrs=[0.1]
bs=4 -> evaluation.linear.batch_size=4
k=20 -> evaluation.knn.ks=[20]
temperature=1 -> evaluation.knn.temperature=1
evaluation.knn.kss=[3] -> evaluation.knn.ks=[3]
ckpt=x -> checkpoint=x
resume=x -> checkpoint=x
model=resnet50 -> backbone=resnet50
""",
    "export": """
ckpt=x -> checkpoint=x
fmt=onnx -> format=onnx
to=hf -> format=hf
out=x -> output_dir=x
repo=a/b -> push=a/b
tol=0.1 -> format.tolerance=0.1
""",
    "prepare": """
path=x -> data.root=x
dataset=/x -> data.root=/x
num_images=5 -> task.limit=5
img_size=64 -> data.view_size=64
""",
}


@pytest.fixture(scope="module")
def configs() -> dict[str, DictConfig]:
    register_resolvers()
    return {command: default_config(command) for command in ("pretrain", *OTHERS)}


def rows(text: str) -> list[tuple[str, str]]:
    return [
        (given, expected)
        for given, _, expected in (row.partition(" -> ") for row in text.strip().splitlines())
    ]


@pytest.mark.user_input(
    "value",
    "a setting under the name of another project, such as `lr=0.1`, `epochs=5`, `model=vit`",
    "one line with the override of this project",
)
def test_names_of_other_projects_and_misspelt_ones_get_the_right_override(configs):
    cases = [("pretrain", *row) for row in rows(PRETRAIN)]
    cases += [(command, *row) for command, text in OTHERS.items() for row in rows(text)]
    wrong = {}
    for command, given, expected in cases:
        hint = suggest_setting(given, command, configs[command])
        if hint not in (f"try {expected}", f"did you mean {expected}?"):
            wrong[command, given] = hint
    assert len(cases) > 90
    assert not wrong


def test_the_suggestions_are_settings_that_a_command_accepts():
    suggested = [part for _, expected in rows(PRETRAIN) for part in expected.split()]
    unique = {
        override.partition("=")[0]: override for override in suggested if not override.startswith("method")
    }
    for name in ("resume", "trainer", "logger", "cropping.mask_ratio", "experiment", "data", "data.root"):
        unique.pop(name)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("pretrain", ["paths.run=run", "data=folder", "data.root=/x", *unique.values()])
    validate.check(cfg, "pretrain", [*unique.values()])


def test_a_budget_replaces_the_number_of_epochs():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("pretrain", ["budget=images", "budget.images=9"])
    hint = suggest_setting("epochs=5", "pretrain", cfg)
    assert (
        hint
        == "the budget sets the length of the training; try another budget, or budget=[] trainer.max_epochs=5"
    )


def test_nothing_similar_gets_the_names_that_exist(configs):
    cfg = configs["pretrain"]
    assert (
        suggest_setting("decoder.foo=1", "pretrain", cfg)
        == "choose from depth, head_std, mlp_ratio, num_heads, width"
    )
    assert suggest_setting("zzz=1", "pretrain", cfg) == "cim-pretrain --help lists the settings"
    added = OmegaConf.merge(OmegaConf.create(OmegaConf.to_container(cfg)), {"target": {"momentun": 1}})
    assert suggest_setting("+target.momentun=1", "pretrain", added) == "did you mean target.momentum=1?"


@pytest.mark.parametrize(
    ("group", "given", "expected"),
    [
        ("backbone", "vit_tny", "vit_tiny_patch16"),
        ("backbone", "vitb16", "vit_base_patch16"),
        ("backbone", "vits16", "vit_small_patch16"),
        ("backbone", "ViT-B/16", "vit_base_patch16"),
        ("backbone", "vit_small", "vit_small_patch16"),
        ("backbone", "swin", "swin_tiny"),
        ("data", "image_folder", "folder"),
        ("data", "imagnet", "imagenet"),
        ("method", "moco", "moco_v3"),
        ("trainer", "gpu", "auto"),
        ("logger", "tb", "tensorboard"),
        ("experiment", "rotation", "ablation/rotation"),
        ("format", "huggingface", "hf"),
    ],
)
def test_a_misspelt_choice_gets_the_right_one(group, given, expected):
    assert suggest_choice(group, given) == f"did you mean {group}={expected}?"


def test_an_unknown_choice_gets_all_choices():
    assert suggest_choice("target", "zzz") == "choose from ema, ema_as_released, separate, shared"


@pytest.mark.user_input(
    "value", "settings in the style of argparse: `--lr 0.1`, `-b 4`, `lr 0.1`", "one line with the override"
)
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--lr", "0.1"], "--lr 0.1: a setting has no dashes; try optim.base_lr=0.1"),
        (["--batch-size=4"], "--batch-size=4: a setting has no dashes; try data.batch_size=4"),
        (["-b", "4"], "-b 4: a setting has no dashes; try data.batch_size=4"),
        (["--data.batch_size", "8"], "--data.batch_size 8: a setting has no dashes; try data.batch_size=8"),
        (["--amp"], "--amp: a setting has no dashes; try trainer.precision=16-mixed"),
        (["--no-amp", "seed=1"], "--no-amp: a setting has no dashes; try trainer.precision=32-true"),
        (["seed=1", "lr", "0.1"], "lr 0.1: a setting is one word; try optim.base_lr=0.1"),
        (["seed", "=", "1"], "seed = 1: a setting is one word; try seed=1"),
        (["--multrun", "seed=1,2"], "--multrun: no such flag; did you mean --multirun?"),
    ],
)
def test_the_style_of_argparse_gets_the_override(arguments, line):
    with pytest.raises(ConfigError) as caught:
        check_style(arguments, "pretrain")
    assert str(caught.value) == line


def test_flags_are_put_in_front_with_their_values():
    arguments = ["seed=1,2", "-m", "--config-dir", "-x=1", "a=-1", "--cfg=job"]
    check_style(arguments, "pretrain")
    assert flags_first(arguments) == ["-m", "--config-dir", "-x=1", "--cfg=job", "seed=1,2", "a=-1"]
    check_style(["stats", "data.root=/my images", "more", "~data.train"], "prepare")


def test_similarity_counts_words_beginnings_and_abbreviations():
    assert similarity("Batch-Size", "batch_size") == 1
    assert closest("vit", ["swin_tiny", "vit_tiny_patch16"]) == "vit_tiny_patch16"
    assert closest("epochs", ["max_epochs", "max_steps"]) == "max_epochs"
    assert closest("zzz", ["max_epochs"]) is None
    assert closest("cifar10", ["cifar10_ablation", "cifar10_cpu"]) == "cifar10_cpu"


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("min_lr=1e-6", "the learning rate follows a linear warm-up and a cosine to 0"),
        ("+optim.lr_decay=0.1", "the learning rate follows a linear warm-up and a cosine to 0"),
        ("nb-classes=10", "the number of classes follows from the images"),
        ("local_rank=0", "trainer.devices and trainer.num_nodes start and connect all processes"),
    ],
)
def test_a_setting_without_a_counterpart_gets_the_reason(override, reason):
    assert suggest_setting(override, "pretrain") == reason
