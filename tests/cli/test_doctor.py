"""`cim-doctor` as a command: the table of a run, the proof of exact resume, and its errors."""

import sys

import pytest

from cim_lightning.cli.main import doctor
from cim_lightning.doctor import images


@pytest.fixture
def run_doctor(monkeypatch, tmp_path, capsys):
    """Return a function that runs the command in an empty folder: exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(images, "SECONDS", 0.2)

    def function(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cim-doctor", *arguments])
        with pytest.raises(SystemExit) as exited:
            doctor()
        printed = capsys.readouterr()
        return exited.value.code or 0, printed.out, printed.err

    return function


def test_the_table_of_a_run(run_doctor, tiny, tmp_path):
    code, out, _ = run_doctor(*tiny, "trainer.accumulate_grad_batches=2", "target.momentum=0.9")
    assert code == 0, out
    assert out.rstrip().endswith("no problems")
    rows = dict(line[2:].split("  ", 1) for line in out.splitlines() if line.startswith("  "))
    rows = {name.strip(): value.strip() for name, value in rows.items()}
    assert rows["optimizer step"] == "16 images = 8 per batch x 2 accumulated batches on 1 device"
    assert rows["epoch"].startswith("2 steps, 32 images; 11 others are left out")
    assert rows["learning rate"] == "0.00625 = base_lr 0.1 x 0.0625, for 16 images"
    assert rows["momentum of target"].endswith("0.95 in the middle, 1 at the end")
    assert rows["classes"] == "2: a, b"
    assert rows["sizes"].startswith("43 sampled: width 40, height 40 pixels")
    assert rows["weights"] == "random initialization"
    assert rows["data type of outputs"] == "backbone float32, target float32, decoder float32"
    assert rows["without gradient"] == "none"
    assert "pos_embed" in rows["frozen"]
    assert list(tmp_path.iterdir()) == []  # nothing is written


@pytest.mark.parametrize("method", ["mae", "random"])
def test_other_methods_have_a_table(run_doctor, tiny, method_overrides, method):
    overrides = [text for text in tiny if not text.startswith(("cropping", "decoder"))]
    code, out, err = run_doctor(*overrides, f"method={method}", *method_overrides[method])
    assert code == 0, out + err
    assert ("no steps" in out) == (method == "random")


def test_settings_without_effect_are_problems(run_doctor, tiny):
    given = [
        "cropping.appearance.jitter_prob=0",
        "cropping.appearance.hue=0.3",
        "data.source.val_fraction=0.2",
    ]
    code, out, _ = run_doctor(*tiny, *given)
    assert code == 1
    assert "cropping.appearance.hue=0.3 has no effect" in out
    assert "data.source.val_fraction=0.2 has no effect" in out
    assert out.rstrip().endswith("2 problem(s)")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["data.batch_size=64"],
            "data.batch_size=64: 1 batch(es) of this size need more than the training set",
        ),
        (["resume=nowhere.ckpt"], "resume=nowhere.ckpt: no such checkpoint"),
        (
            ["evaluation=[linear]", "evaluation.linear.layers=50"],
            "evaluation.linear.layers=50: vit_",
        ),
    ],
)
def test_what_a_training_refuses_is_refused(run_doctor, tiny, arguments, line):
    code, out, err = run_doctor(*tiny, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"cim-doctor: {line}"), err


def test_a_resume_is_proven(run_doctor, tiny):
    code, out, _ = run_doctor(
        "verify-resume", *tiny, "trainer.accumulate_grad_batches=2", "data.num_workers=1"
    )
    assert code == 0, out
    assert out.count("bit for bit") == 10
    assert "all 0 values" not in out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["data.batch_siz=3"], "data.batch_siz"),
        (["trainer.gradient_clip_val=-1"], "trainer.gradient_clip_val=-1: must be above 0"),
        (["-m", "seed=0,1"], "-m: cim-doctor has no such option"),
        (["data=folder", "data.root=nowhere"], "data.root=nowhere: does not exist"),
        (["replay"], "replay: takes one file; try cim-doctor replay RUN"),
        (["replay", "a.json", "devic=cuda"], "replay: devic is no such setting"),
        (["replay", "nowhere.json"], "file=nowhere.json: does not exist"),
    ],
)
def test_a_mistake_is_one_line(run_doctor, tmp_path, arguments, line):
    code, out, err = run_doctor(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith(f"cim-doctor: {line}"), err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help(run_doctor):
    code, out, _ = run_doctor("--help")
    assert code == 0
    assert "cim-doctor verify-resume" in out
