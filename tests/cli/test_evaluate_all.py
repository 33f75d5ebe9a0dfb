"""`evaluation=all` ends with a table for every method and kind of weights; parts can be skipped, or fail."""

import json
import shutil
from pathlib import Path
from typing import ClassVar

import pytest
import timm
from safetensors.torch import save_file

from cim_lightning.errors import ConfigError
from cim_lightning.metric_registry import Metric
from cim_lightning.report.columns import columns
from cim_lightning.report.runs import read_run

METHODS = sorted(file.stem for file in (Path(__file__).parents[2] / "conf" / "method").glob("*.yaml"))
FAST = [  # all evaluators, in a second or two
    "trainer=cpu",
    "evaluation.knn.ks=[1,20]",
    "evaluation.linear.epochs=1",
    "evaluation.linear.lrs=[0.1]",
    "evaluation.lowshot.draws=1",
    "evaluation.lowshot.shots=[1]",
    "evaluation.lowshot.shares=[0.5]",
    "evaluation.representation.num_pictures=1",
    "evaluation.correlation.num_images=4",
    "evaluation.correlation.scales=[0.2]",
    "evaluation.correlation.rotations=[0]",
    "evaluation.robustness.num_images=4",
    "evaluation.robustness.corruptions=[contrast]",
    "evaluation.robustness.radii=[1]",
    "evaluation.robustness.pgd_steps=1",
    "evaluation.attentive.epochs=1",
    "evaluation.attentive.lrs=[0.001]",
]
LABELED = {"knn", "linear", "lowshot", "robustness", "attentive"}
ALWAYS = {"representation"}


def evaluators(numbers: dict) -> set[str]:
    return {name.partition("/")[0] for name in numbers if "/" in name}


def check_table(folder: str, numbers: dict) -> None:
    """Every metric has a row with a title and its unit, and every skipped evaluator its reason."""
    table = Path(folder, "table.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if line.startswith("| ")]
    for name in numbers:
        if "/" in name:
            title, unit = numbers["metrics"][name]["title"], numbers["metrics"][name].get("unit", "")
            (value,) = (row[2] for row in rows if row[:2] == [name.partition("/")[0], title])
            assert value.endswith(unit)
    assert numbers["failed"] == {}
    for name, reason in numbers["skipped"].items():
        assert f"* {name} skipped: {reason}" in table


@pytest.fixture
def unlabeled(photos: Path, tmp_path: Path) -> Path:
    """The photos without class folders."""
    for split in ("train", "val"):
        folder = tmp_path / "unlabeled" / split
        folder.mkdir(parents=True)
        for path in (photos / split).rglob("*.png"):
            shutil.copy(path, folder)
    return tmp_path / "unlabeled"


@pytest.mark.parametrize("method", METHODS)
def test_all_ends_with_a_table_for_every_method(method, run_pretrain, run_evaluate, tiny, method_overrides):
    of_other_methods = ("cropping=", "decoder.")
    common = [argument for argument in tiny if not argument.startswith(of_other_methods)]
    run_pretrain(
        f"method={method}", *common, *method_overrides[method], "trainer.max_steps=1", "output_dir=run"
    )
    numbers = run_evaluate("run/evaluation", "checkpoint=run", *FAST)
    cim = method == "cim"
    assert evaluators(numbers) == LABELED | ALWAYS | ({"correlation"} if cim else set())
    assert numbers["skipped"].keys() == {"dense"} | (set() if cim else {"correlation"})
    check_table("run/evaluation", numbers)
    assert {c.name for c in columns([read_run(Path("run"))])} >= {
        "evaluation/knn/mean_k20",
        "evaluation/linear/mean",
    }


def test_all_ends_with_a_table_for_an_untrained_backbone(run_evaluate, photos, capsys):
    numbers = run_evaluate(
        "out",
        "checkpoint=untrained",
        "backbone=vit_tiny_patch16",
        "+backbone.kwargs.depth=2",
        "data=folder",
        f"data.root={photos}",
        "data.view_size=32",
        "data.num_workers=0",
        *FAST,
    )
    assert evaluators(numbers) == LABELED | ALWAYS
    assert numbers["skipped"] == {
        "correlation": "needs a checkpoint of CIM",
        "dense": "needs images with masks",
    }
    check_table("out", numbers)
    printed = capsys.readouterr().out
    assert Path("out/table.md").read_text() in printed
    assert "about " in printed  # the estimate of the time


def test_all_ends_with_a_table_for_timm_weights(run_evaluate, photos, tmp_path):
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.safetensors")
    numbers = run_evaluate(
        "out",
        f"checkpoint={tmp_path / 'weights.safetensors'}",
        "backbone=resnet18",
        "backbone.name=test_resnet",
        "data=folder",
        f"data.root={photos}",
        "data.view_size=32",
        "data.num_workers=0",
        *FAST,
    )
    assert evaluators(numbers) == LABELED | ALWAYS
    check_table("out", numbers)
    assert not Path("out/attention.png").exists()


def test_an_unlabeled_run_is_evaluated_without_the_parts_that_need_labels(
    run_pretrain, run_evaluate, tiny, unlabeled
):
    run = [*tiny, f"data.root={unlabeled}", "trainer.max_steps=1", "output_dir=run"]
    run_pretrain(*run)
    numbers = run_evaluate("run/evaluation", "checkpoint=run", *FAST)
    assert evaluators(numbers) == ALWAYS | {"correlation"}
    assert numbers["skipped"] == dict.fromkeys(sorted(LABELED), "needs images with labels") | {
        "dense": "needs images with masks"
    }
    check_table("run/evaluation", numbers)


def test_a_run_with_evaluation_all_reports_what_it_skips_and_is_finished(
    run_pretrain, tiny, unlabeled, capsys
):
    fast = [text for text in FAST if text != "trainer=cpu"]
    run = [*tiny, f"data.root={unlabeled}", "trainer.max_steps=1", "output_dir=run", "evaluation=all", *fast]
    run_pretrain(*run)
    numbers = json.loads(Path("run/evaluation/metrics.json").read_text())
    assert evaluators(numbers) == ALWAYS | {"correlation"}
    assert "* knn skipped: needs images with labels" in capsys.readouterr().out
    written = Path("run/evaluation/metrics.json").stat().st_mtime_ns
    run_pretrain(*run)
    assert Path("run/evaluation/metrics.json").stat().st_mtime_ns == written  # nothing is missing


@pytest.mark.parametrize("parts", ["correlation", "[knn,correlation]", "[all,correlation]"])
def test_a_named_part_that_does_not_apply_is_refused_at_once(parts, run_evaluate, photos, capfd):
    data = ["data=folder", f"data.root={photos}", "data.view_size=32", "data.num_workers=0"]
    with pytest.raises(SystemExit) as ended:
        run_evaluate("out", "checkpoint=untrained", "backbone=vit_micro_patch4", *data, f"evaluation={parts}")
    assert ended.value.code == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("cim-evaluate: correlation needs a checkpoint of CIM; try evaluation=all")
    assert not Path("out/metrics.json").exists()


class Broken:
    """An evaluator that fails, with a ConfigError or another error."""

    metrics: ClassVar[tuple[Metric, ...]] = ()

    def __init__(self, size: int):
        self.size = size

    def applies(self, context) -> str | None:
        return None

    def forward_passes(self, context) -> float:
        return 0

    def __call__(self, context) -> dict[str, float]:
        if self.size:
            raise ConfigError("size", self.size, "must be 0", suggest=0)
        raise RuntimeError("out of memory")


BROKEN = [f"+evaluation.broken._target_={__name__}.Broken", f"+evaluation.odd._target_={__name__}.Broken"]
BROKEN += ["+evaluation.broken.size=0", "+evaluation.odd.size=3"]


def check_failure(err: str, command: str) -> None:
    line = err.splitlines()[-1]
    assert line.startswith(
        f"{command}: broken failed: RuntimeError: out of memory; "
        "odd failed: evaluation.odd.size=3: must be 0; try evaluation.odd.size=0 (the other results are in "
    )


def test_a_failed_part_is_recorded_and_the_others_run(run_evaluate, photos, capfd):
    data = ["data=folder", f"data.root={photos}", "data.view_size=32", "data.num_workers=0"]
    arguments = ["checkpoint=untrained", "backbone=vit_micro_patch4", *data]
    parts = ["evaluation=representation", *BROKEN, *FAST[:1]]
    with pytest.raises(SystemExit) as ended:
        run_evaluate("out", *arguments, *parts)
    assert ended.value.code == 1
    check_failure(capfd.readouterr().err, "cim-evaluate")
    numbers = json.loads(Path("out/metrics.json").read_text())
    assert numbers["failed"] == {
        "broken": "RuntimeError: out of memory",
        "odd": "evaluation.odd.size=3: must be 0; try evaluation.odd.size=0",
    }
    assert evaluators(numbers) == {"representation"}
    numbers = run_evaluate("out", *arguments, "evaluation=knn", *FAST[:2])  # succeeds, and adds
    assert evaluators(numbers) == {"representation", "knn"}
    assert numbers["failed"].keys() == {"broken", "odd"}


def test_a_failed_part_does_not_lose_the_training(run_pretrain, tiny, capfd):
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*tiny, "trainer.max_steps=1", "output_dir=run", "evaluation=representation", *BROKEN)
    assert ended.value.code == 1
    check_failure(capfd.readouterr().err, "cim-pretrain")
    assert read_run(Path("run")).finished
    assert "evaluation/representation/spread" in read_run(Path("run")).numbers


def test_a_part_that_does_not_apply_is_refused_before_training(run_pretrain, tiny, capfd):
    of_cim = ("cropping=", "decoder.")
    common = [argument for argument in tiny if not argument.startswith(of_cim)]
    with pytest.raises(SystemExit) as ended:
        run_pretrain("method=simmim", *common, "output_dir=run", "evaluation=[knn,correlation]")
    assert ended.value.code == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("cim-pretrain: correlation needs a checkpoint of CIM; try evaluation=all")
    assert not Path("run/checkpoints").exists()
