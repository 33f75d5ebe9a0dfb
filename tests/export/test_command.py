"""`cim-export`: from what a run left to what others load."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import timm
import torch
from hydra import compose, initialize_config_dir

from cim_lightning.config import validate
from cim_lightning.config.compose import CONF, register_resolvers

FORMATS = sorted(path.stem for path in (CONF / "format").glob("*.yaml"))


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`cim-export`, in this process and an empty folder; called with its arguments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def run(*arguments: str) -> None:
        from cim_lightning.cli.main import export

        monkeypatch.setattr(sys, "argv", ["cim-export", *arguments])
        export()

    return run


def original(run: Path) -> torch.nn.Module:
    """The timm model that the run's settings speak of, with what its checkpoint holds."""
    weights = torch.load(run / "checkpoints" / "last.ckpt")
    said = weights["hyper_parameters"]["backbone"]
    model = timm.create_model(said["name"], num_classes=0, **said["kwargs"])
    own = {key: value for key, value in weights["state_dict"].items() if key.startswith("backbone.model.")}
    model.load_state_dict({key.removeprefix("backbone.model."): value for key, value in own.items()})
    return model.eval()


def test_a_run_is_exported_to_every_format_and_each_is_loaded(
    run_pretrain, export, tiny, tmp_path, monkeypatch, capfd
):
    run_pretrain(*tiny, "trainer.max_steps=2", "output_dir=run")
    capfd.readouterr()
    shown = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted = original(tmp_path / "run")(shown)
    for form in FORMATS:
        export("checkpoint=run", f"format={form}")
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 2 * len(FORMATS)
    assert all("differs by at most" in line for line in lines)

    folder = tmp_path / "run" / "export"
    said = json.loads((folder / "timm" / "backbone.json").read_text())
    assert said["image_size"] == 32
    assert said == json.loads((tmp_path / "run" / "backbone.json").read_text())
    weights = folder / "timm" / "backbone.safetensors"
    by_timm = timm.create_model(**said["create_model"], checkpoint_path=weights).eval()
    by_hub = timm.create_model(f"local-dir:{folder / 'hf'}", pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        assert torch.equal(by_timm(shown), wanted)
        assert torch.equal(by_hub(shown), wanted)
    session = onnxruntime.InferenceSession(folder / "onnx" / "backbone.onnx")
    (pooled,) = session.run(["pooled"], {"images": shown.numpy()})
    torch.testing.assert_close(torch.from_numpy(pooled), wanted, rtol=1e-4, atol=1e-5)
    for form in FORMATS:
        (record,) = json.loads((folder / form / "export.json").read_text()).values()
        assert record["checkpoint"] == "run/checkpoints/last.ckpt"
        assert record["max_abs_difference"].keys() == record["max_abs_value"].keys()
    assert not list(folder.rglob(".hydra"))

    export("checkpoint=run/backbone.safetensors", "format=hf", "output_dir=again")
    again = timm.create_model(f"local-dir:{tmp_path / 'again'}", pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        assert torch.equal(again(shown), wanted)

    export("-m", "checkpoint=run", "format=timm,hf", "hydra.sweep.dir=sweep")
    assert (tmp_path / "sweep" / "0" / "backbone.safetensors").exists()
    assert (tmp_path / "sweep" / "1" / "model.safetensors").exists()

    capfd.readouterr()
    monkeypatch.setattr("cim_lightning.export.format.difference", lambda wanted, found: 0.5)
    with pytest.raises(SystemExit) as ended:
        export("checkpoint=run")
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("cim-export: format.tolerance=1e-06: ")
    assert "differs by at most 0.5" in line


MISTAKES = {
    "no checkpoint": ([], ["checkpoint: has no default here"]),
    "nor with a folder": (["output_dir=there"], ["checkpoint: has no default here"]),
    "lost checkpoint": (
        ["checkpoint=lost"],
        ["checkpoint=lost", "does not exist", "try a run's folder"],
    ),
    "no checkpoint at all": (
        ["checkpoint=null", "output_dir=there"],
        ["checkpoint=None", "str", "no default"],
    ),
    "untrained": (["checkpoint=untrained"], ["checkpoint=untrained", "try a run's folder"]),
    "format": (["checkpoint=run", "format=onxx"], ["format=onxx", "try format=onnx"]),
    "key": (["checkpoint=run", "chekpoint=run"], ["chekpoint=run", "try checkpoint"]),
    "key of another format": (["checkpoint=run", "format.opset=18"], ["format.opset=18", "format=onnx"]),
    "word for a share": (
        ["checkpoint=run", "format.tolerance=low"],
        ["format.tolerance=low", "float", "format.tolerance=1e-06"],
    ),
    "share": (
        ["checkpoint=run", "format.tolerance=2"],
        ["format.tolerance=2", "try format.tolerance=0.1"],
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_gets_one_line(case, export, capfd):
    arguments, parts = MISTAKES[case]
    with pytest.raises(SystemExit) as ended:
        export(*arguments)
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("cim-export: ")
    for part in parts:
        assert part in line


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_accepted(form):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("export", [f"format={form}", "checkpoint=run", "output_dir=there"])
    validate.check(cfg, "export")


def test_weights_that_do_not_say_what_they_are_are_refused(export, tmp_path, capfd):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "foreign.pt")
    with pytest.raises(SystemExit):
        export("checkpoint=foreign.pt")
    assert "foreign.pt: nothing says which architecture" in capfd.readouterr().err
