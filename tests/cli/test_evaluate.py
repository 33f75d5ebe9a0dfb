"""The door `cim-evaluate`: whatever was trained gets the same numbers, once."""

import json
import signal
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from cim_lightning.cli.main import evaluate

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


@pytest.fixture
def judge(monkeypatch, tmp_path):
    """`cim-evaluate`, in this process; gives back metrics.json."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def judged(folder: str, *arguments: str) -> dict:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        monkeypatch.setattr(sys, "argv", ["cim-evaluate", *arguments, f"output_dir={folder}"])
        try:
            evaluate()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return json.loads(Path(folder, "metrics.json").read_text())

    return judged


def test_checkpoint_and_export_get_the_same_numbers(run, judge, photos, capsys):
    ours = judge("ours", f"checkpoint={run}", *SMALL)
    data = ["data=folder", f"data.root={photos}", "data.num_workers=0", "data.batch_size=8"]
    exported = judge("exported", f"checkpoint={run / 'backbone.safetensors'}", *data, *SMALL)
    told = capsys.readouterr()
    assert "| knn | mean k1 |" in told.out
    assert "Logging error" not in told.err
    numbers = [key for key in ours if "/" in key]
    assert {key.partition("/")[0] for key in numbers} == {"knn", "linear", "lowshot", "representation"}
    for key in numbers:
        assert ours[key] == pytest.approx(exported[key], abs=1e-6), key
    assert ours["checkpoint"].endswith("last.ckpt")


def test_the_online_knn_of_training_is_the_evaluations(run, judge):
    judged = judge("ours", f"checkpoint={run}", "evaluation=knn", "evaluation.knn.ks=[20]")
    trained = json.loads((run / "metrics.json").read_text())
    assert judged["knn/mean_k20"] == pytest.approx(trained["val/knn"], abs=1e-6)
    assert judged["knn/pooled_k20"] == pytest.approx(trained["val/knn_pooled"], abs=1e-6)


def test_all_of_a_checkpoint_of_ours_and_a_rerun_does_nothing_again(run, judge, capsys):
    few = ["evaluation.correlation.num_images=4", "evaluation.correlation.scales=[0.2]", *SMALL[1:]]
    few += ["evaluation.robustness.num_images=4", "evaluation.robustness.corruptions=[contrast]"]
    few += ["evaluation.finetune.classifier.epochs=1"]
    first = judge("all", f"checkpoint={run / 'checkpoints' / 'last.ckpt'}", *few)
    assert {"correlation/skill", "correlation/auc_constant", "robustness/accuracy_clean"} <= first.keys()
    assert {path.name for path in Path("all").glob("*.png")} == {
        "correlation.png",
        "attention.png",
        "finetune.png",
    }
    before = {path: path.stat().st_mtime_ns for path in Path("all/parts").iterdir()}
    assert judge("all", f"checkpoint={run / 'checkpoints' / 'last.ckpt'}", *few) == first
    assert {path: path.stat().st_mtime_ns for path in Path("all/parts").iterdir()} == before


def test_any_timm_weights_and_none(judge, photos, tmp_path):
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", num_classes=7)
    save_file(model.state_dict(), tmp_path / "theirs.safetensors")
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "theirs.pth"
    )
    given = [*OTHER, f"data.root={photos}", "evaluation=knn"]
    plain, wrapped, untrained = (
        judge(f"out-{i}", f"checkpoint={name}", *given)
        for i, name in enumerate((tmp_path / "theirs.safetensors", tmp_path / "theirs.pth", "untrained"))
    )
    numbers = [key for key in plain if "/" in key]
    assert [plain[key] for key in numbers] == [wrapped[key] for key in numbers]
    assert untrained["checkpoint"] == "untrained"


MISTAKES = {
    "nothing there": (["checkpoint=lost"], ["checkpoint=", "does not exist", "nearest"]),
    "no weights": (["checkpoint={photos}/val/a/0.png"], ["checkpoint=", "cannot be read as weights"]),
    "no run": (["checkpoint={photos}"], ["checkpoint=", "holds no run and no backbone"]),
    "no checkpoint": ([], ["checkpoint", "has no default here"]),
    "no data": (["checkpoint=untrained", "backbone=resnet18"], ["data:", "try data=folder"]),
    "no backbone": (
        ["checkpoint=untrained", "data=folder", "data.root=x"],
        ["backbone:", "try backbone="],
    ),
    "part": (["checkpoint=untrained", "evaluation=knnn"], ["evaluation=knnn", "try evaluation=knn"]),
    "setting": (
        ["checkpoint=untrained", "evaluation.knn.kss=[3]"],
        ["evaluation.knn.kss=[3]", "try evaluation.knn.ks"],
    ),
    "device": (
        ["checkpoint=untrained", *OTHER, "data.root={photos}", "device=tpuu"],
        ["device=tpuu", "nearest"],
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_gets_one_line(case, judge, photos, capfd):
    arguments, parts = MISTAKES[case]
    with pytest.raises(SystemExit) as ended:
        judge("out", *(argument.format(photos=photos) for argument in arguments))
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("cim-evaluate: ")
    for part in parts:
        assert part in line


def test_weights_of_another_architecture_are_refused(judge, photos, tmp_path, capfd):
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(SystemExit):
        judge(
            "out",
            f"checkpoint={tmp_path / 'vit.safetensors'}",
            *OTHER,
            f"data.root={photos}",
            "evaluation=knn",
        )
    assert "not weights of test_resnet" in capfd.readouterr().err


def test_a_checkpoint_that_says_its_backbone_takes_no_other(run, judge, capfd):
    with pytest.raises(SystemExit):
        judge("out", f"checkpoint={run}", "backbone=resnet18")
    assert "says itself which it is" in capfd.readouterr().err
