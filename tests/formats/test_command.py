"""`cim-export`: from a run to files that timm and onnxruntime load."""

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
OF_VITS = [form for form in FORMATS if form != "torchvision"]


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that runs `cim-export` in this process and an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def run(*arguments: str) -> None:
        from cim_lightning.cli.main import export

        monkeypatch.setattr(sys, "argv", ["cim-export", *arguments])
        export()

    return run


def original(run: Path) -> torch.nn.Module:
    """Return the timm model of a run, from the settings and weights in its checkpoint."""
    weights = torch.load(run / "checkpoints" / "last.ckpt")
    settings = weights["hyper_parameters"]["backbone"]
    model = timm.create_model(settings["name"], num_classes=0, **settings["kwargs"])
    prefix = "backbone.model."
    state = {key: value for key, value in weights["state_dict"].items() if key.startswith(prefix)}
    model.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()})
    return model.eval()


@pytest.mark.usefixtures("untyped")
def test_a_run_is_exported_in_every_format_and_reloaded(
    run_pretrain, export, tiny, tmp_path, monkeypatch, capfd
):
    run_pretrain(*tiny, "trainer.max_steps=2", "output_dir=run")
    capfd.readouterr()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = original(tmp_path / "run")(images)
    for form in OF_VITS:
        export("checkpoint=run", f"format={form}")
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 2 * len(OF_VITS)
    assert all("differs by at most" in line for line in lines)

    folder = tmp_path / "run" / "export"
    config = json.loads((folder / "timm" / "backbone.json").read_text())
    assert config["image_size"] == 32
    assert config == json.loads((tmp_path / "run" / "backbone.json").read_text())
    weights = folder / "timm" / "backbone.safetensors"
    overlay = config["pretrained_cfg"] | {"file": weights}
    timm_model = timm.create_model(
        **config["create_model"], pretrained=True, pretrained_cfg_overlay=overlay
    ).eval()
    hf_model = timm.create_model(f"local-dir:{folder / 'hf'}", pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        assert torch.equal(timm_model(images), expected)
        assert torch.equal(hf_model(images), expected)
    session = onnxruntime.InferenceSession(folder / "onnx" / "backbone.onnx")
    (pooled,) = session.run(["pooled"], {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(pooled), expected, rtol=1e-4, atol=1e-5)
    for form in OF_VITS:
        record = next(iter(json.loads((folder / form / "export.json").read_text()).values()))
        assert record["checkpoint"] == "run/checkpoints/last.ckpt"
        assert record["max_abs_difference"].keys() == record["max_abs_value"].keys()
    assert not list(folder.rglob(".hydra"))

    export("checkpoint=run/backbone.safetensors", "format=hf", "output_dir=again")
    again = timm.create_model(f"local-dir:{tmp_path / 'again'}", pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        assert torch.equal(again(images), expected)

    export("-m", "checkpoint=run", "format=timm,hf", "hydra.sweep.dir=sweep")
    assert (tmp_path / "sweep" / "0" / "backbone.safetensors").exists()
    assert (tmp_path / "sweep" / "1" / "model.safetensors").exists()

    capfd.readouterr()
    monkeypatch.setattr("cim_lightning.formats.format.max_difference", lambda expected, loaded: 0.5)
    with pytest.raises(SystemExit) as ended:
        export("checkpoint=run")
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("cim-export: format.tolerance=1e-06: ")
    assert "differs by at most 0.5" in line


MISTAKES = {
    "no checkpoint": ([], ["checkpoint: has no default; set checkpoint=..."]),
    "no checkpoint with a folder": (["output_dir=there"], ["checkpoint: has no default"]),
    "missing checkpoint": (
        ["checkpoint=lost"],
        ["checkpoint=lost", "does not exist", "try a run's folder"],
    ),
    "null checkpoint": (["checkpoint=null", "output_dir=there"], ["checkpoint=null", "must be str"]),
    "untrained": (["checkpoint=untrained"], ["checkpoint=untrained", "try a run's folder"]),
    "format": (["checkpoint=run", "format=onxx"], ["format=onxx", "did you mean format=onnx?"]),
    "key": (["checkpoint=run", "chekpoint=run"], ["chekpoint=run", "did you mean checkpoint=run?"]),
    "key of another format": (["checkpoint=run", "format.opset=18"], ["format.opset=18", "format=onnx"]),
    "a word for the tolerance": (
        ["checkpoint=run", "format.tolerance=low"],
        ["format.tolerance=low", "float", "format.tolerance=1e-06"],
    ),
    "a push of another format": (
        ["checkpoint=run", "format=onnx", "push=me/mine"],
        ["push=me/mine: format=onnx has no upload", "try format=hf"],
    ),
    "a push without an owner": (
        ["checkpoint=run", "format=hf", "push=mine"],
        ["push=mine: must be OWNER/NAME", "push=me/my-backbone"],
    ),
    "a tolerance above 1": (
        ["checkpoint=run", "format.tolerance=2"],
        ["format.tolerance=2", "try format.tolerance=0.9"],
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_gets_one_line(case, export, capfd):
    arguments, parts = MISTAKES[case]
    Path("run").mkdir()
    Path("run/backbone.safetensors").touch()
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


def test_weights_without_an_architecture_are_an_error(export, tmp_path, capfd):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "foreign.pt")
    with pytest.raises(SystemExit):
        export("checkpoint=foreign.pt")
    assert "foreign.pt: does not say which architecture" in capfd.readouterr().err
