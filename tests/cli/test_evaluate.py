"""`cim-evaluate`: the same metrics for a run and its export, any timm weights, and cached results."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from cim_lightning.report.columns import columns
from cim_lightning.report.runs import read_run

SMALL = [
    "evaluation=[knn,linear,lowshot,representation]",
    "evaluation.linear.epochs=3",
    "evaluation.lowshot.draws=1",
]
OTHER = [
    "backbone=resnet18",
    "backbone.name=test_resnet",
    "data=folder",
    "data.view_size=32",
    "data.num_workers=0",
]


@pytest.fixture
def run(run_pretrain, tiny, tmp_path) -> Path:
    run_pretrain(*tiny, "trainer.max_steps=2", "output_dir=run")
    return tmp_path / "run"


def test_checkpoint_and_export_have_the_same_metrics(run, run_evaluate, photos, capsys):
    ours = run_evaluate("ours", f"checkpoint={run}", *SMALL)
    data = ["data=folder", f"data.root={photos}", "data.num_workers=0", "data.batch_size=8"]
    exported = run_evaluate("exported", f"checkpoint={run / 'backbone.safetensors'}", *data, *SMALL)
    printed = capsys.readouterr()
    assert "| knn | mean over the grid, k = 1 |" in printed.out
    assert "Logging error" not in printed.err
    numbers = [key for key in ours if "/" in key]
    assert {key.partition("/")[0] for key in numbers} == {"knn", "linear", "lowshot", "representation"}
    for key in numbers:
        assert ours[key] == pytest.approx(exported[key], abs=1e-6), key
    assert ours["checkpoint"].endswith("last.ckpt")


def test_the_online_knn_equals_that_of_the_evaluation(run, run_evaluate):
    metrics = run_evaluate("ours", f"checkpoint={run}", "evaluation=knn", "evaluation.knn.ks=[20]")
    trained = json.loads((run / "metrics.json").read_text())
    # Lightning logs in fp32.
    assert metrics["knn/mean_k20"] == pytest.approx(trained["val/knn"], rel=1e-6)
    assert metrics["knn/pooled_k20"] == pytest.approx(trained["val/knn_pooled"], rel=1e-6)


def test_a_second_command_adds_and_reads_what_it_has_from_the_cache(run, run_evaluate):
    checkpoint = f"checkpoint={run / 'checkpoints' / 'last.ckpt'}"
    first = run_evaluate("run/evaluation", checkpoint, "evaluation=[knn,representation]")
    assert Path("run/evaluation/attention.png").exists()
    before = {path: path.stat().st_mtime_ns for path in Path("run/evaluation/evaluators").iterdir()}
    both = run_evaluate(
        "run/evaluation", checkpoint, "evaluation=[knn,lowshot]", "evaluation.lowshot.draws=1"
    )
    assert {path: path.stat().st_mtime_ns for path in before} == before
    numbers = {name for name in both if "/" in name}
    assert {name: both[name] for name in first if "/" in name} == {
        name: first[name] for name in first if "/" in name
    }
    assert {name.partition("/")[0] for name in numbers} == {"knn", "representation", "lowshot"}
    assert both["protocol"].keys() == {"knn", "representation", "lowshot"}
    assert both["protocol"]["knn"]["preprocessing"] == "CenterSquare(size=32)"
    assert (both["train_images"], both["val_images"]) == (43, 9)
    titles = {column.title for column in columns([read_run(run)])}
    assert {"k-NN, mean, k = 20, %", "k-NN, pooled, k = 20, %"} <= titles


def test_another_data_set_or_protocol_is_not_mixed_with_the_first(run, run_evaluate, photos):
    first = run_evaluate("out", f"checkpoint={run}", "evaluation=knn")
    standard = ["evaluation=representation", "protocol=standard"]
    other = run_evaluate("out", f"checkpoint={run}", *standard)
    assert {name.partition("/")[0] for name in other if "/" in name} == {"representation"}
    again = run_evaluate("out", f"checkpoint={run}", "evaluation=knn")
    assert again == first


def test_timm_weights_and_an_untrained_backbone(run_evaluate, photos, tmp_path):
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", num_classes=7)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "weights.pth"
    )
    overrides = [*OTHER, f"data.root={photos}", "evaluation=knn"]
    plain, wrapped, untrained = (
        run_evaluate(f"out-{i}", f"checkpoint={name}", *overrides)
        for i, name in enumerate((tmp_path / "weights.safetensors", tmp_path / "weights.pth", "untrained"))
    )
    numbers = [key for key in plain if "/" in key]
    assert [plain[key] for key in numbers] == [wrapped[key] for key in numbers]
    assert untrained["checkpoint"] == "untrained"


MISTAKES = {
    "missing file": (["checkpoint=lost"], ["checkpoint=lost", "does not exist", "try a run's folder"]),
    "no weights": (
        ["checkpoint={photos}/val/a/0.png"],
        ["checkpoint=", "is an image", "give the path of the weights"],
    ),
    "no run": (["checkpoint={photos}"], ["checkpoint=", "has neither a run nor weights"]),
    "no checkpoint": ([], ["checkpoint: has no default; set checkpoint=..."]),
    "no data": (["checkpoint=untrained", "backbone=resnet18"], ["data:", "try data=folder"]),
    "no backbone": (
        ["checkpoint=untrained", "data=folder", "data.root=x"],
        ["backbone:", "try backbone="],
    ),
    "evaluator": (
        ["checkpoint=untrained", "evaluation=knnn"],
        ["evaluation=knnn", "did you mean evaluation=knn?"],
    ),
    "setting": (
        ["checkpoint=untrained", "evaluation.knn.kss=[3]"],
        ["evaluation.knn.kss=[3]", "did you mean evaluation.knn.ks=[3]?"],
    ),
    "setting of a nested class": (
        [
            "checkpoint=untrained",
            *OTHER,
            "data.root={photos}",
            "evaluation=finetune",
            "evaluation.finetune.classifier.view.scale=[2,3]",
        ],
        [
            ": evaluation.finetune.classifier.view.scale=[2, 3]",
            "try evaluation.finetune.classifier.view.scale=",
        ],
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_gets_one_line(case, run_evaluate, photos, capfd):
    arguments, parts = MISTAKES[case]
    with pytest.raises(SystemExit) as ended:
        run_evaluate("out", *(argument.format(photos=photos) for argument in arguments))
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("cim-evaluate: ")
    for part in parts:
        assert part in line


@pytest.mark.user_input(
    "weights", "checkpoint=VIT backbone=RESNET", "one line that names tensors of the file"
)
@pytest.mark.user_input(
    "weights", "checkpoint=untrained backbone.weights=FILE", "one line: try checkpoint=FILE"
)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["checkpoint=vit.safetensors"], "checkpoint=vit.safetensors: has none of the tensors of ResNet"),
        (
            ["checkpoint=untrained", "backbone.weights=vit.safetensors"],
            "backbone.weights=vit.safetensors: the weights to evaluate are the checkpoint; "
            "try checkpoint=vit.safetensors",
        ),
        (
            ["checkpoint=vit.safetensors", "backbone=vit_micro_patch4", "backbone.name=vit_tiny_patch16_224"],
            "checkpoint=vit.safetensors: timm weights do not fit vit_tiny_patch16_224",
        ),
    ],
)
def test_weights_of_another_architecture_are_refused(
    arguments, message, run_evaluate, photos, tmp_path, capfd
):
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(SystemExit) as ended:
        run_evaluate("out", *OTHER, f"data.root={photos}", "evaluation=knn", *arguments)
    assert ended.value.code == 2
    assert f"cim-evaluate: {message}" in capfd.readouterr().err


def test_a_checkpoint_with_a_backbone_refuses_another(run, run_evaluate, capfd):
    with pytest.raises(SystemExit):
        run_evaluate("out", f"checkpoint={run}", "backbone=resnet18")
    assert "already has an architecture; remove backbone=..." in capfd.readouterr().err


@pytest.mark.parametrize(
    ("factor", "code", "message"),
    [
        (float("nan"), 2, "cim-evaluate: checkpoint="),
        (1e30, 1, "cim-evaluate: knn failed: the backbone's features are not finite"),
    ],
)
def test_damaged_weights_are_not_blamed_on_a_setting(
    factor, code, message, run_evaluate, photos, tmp_path, capfd
):
    state = timm.create_model("test_resnet", num_classes=0).state_dict()
    damaged = {
        name: tensor * factor if tensor.is_floating_point() else tensor for name, tensor in state.items()
    }
    save_file(damaged, tmp_path / "nan.safetensors")
    with pytest.raises(SystemExit) as ended:
        run_evaluate(
            "out",
            f"checkpoint={tmp_path / 'nan.safetensors'}",
            *OTHER,
            f"data.root={photos}",
            "evaluation=knn",
        )
    assert ended.value.code == code
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith(message)
    assert "base_lr" not in line
