"""Comparison after reloading: differences are recorded, and large differences are errors."""

import json
import math
from shutil import copy

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cim_lightning.errors import ConfigError
from cim_lightning.formats.format import example_images, max_difference
from cim_lightning.formats.hf_format import HFFormat
from cim_lightning.formats.onnx_format import ONNXFormat
from cim_lightning.formats.timm_format import TimmFormat
from cim_lightning.models.module_backbone import ModuleBackbone


def change_weight(path):
    state = load_file(path)
    name = next(name for name, tensor in state.items() if tensor.ndim == 2)
    state[name][0, 0] += 0.1
    save_file(state, path)


def change_mean(path, *keys):
    config = node = json.loads(path.read_text())
    for key in keys:
        node = node[key]
    node["mean"] = [0.2, 0.4, 0.6]
    path.write_text(json.dumps(config))


def change_onnx_weight(path):
    model = onnx.load(path)
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "model.norm.bias")
    changed = onnx.numpy_helper.to_array(weight).copy()
    changed[0] += 0.1
    weight.CopyFrom(onnx.numpy_helper.from_array(changed, weight.name))
    onnx.save(model, path)


def change_onnx_mean(path):
    model = onnx.load(path)
    (mean,) = (entry for entry in model.metadata_props if entry.key == "mean")
    mean.value = "[0.2, 0.4, 0.6]"
    onnx.save(model, path)


FAULTS = {
    "timm weight": (TimmFormat(1e-6), lambda folder: change_weight(folder / "backbone.safetensors")),
    "timm mean": (TimmFormat(1e-6), lambda folder: change_mean(folder / "backbone.json", "pretrained_cfg")),
    "hf weight": (HFFormat(1e-6), lambda folder: change_weight(folder / "model.safetensors")),
    "hf mean": (HFFormat(1e-6), lambda folder: change_mean(folder / "config.json", "pretrained_cfg")),
    "onnx weight": (ONNXFormat(1e-4, None), lambda folder: change_onnx_weight(folder / "backbone.onnx")),
    "onnx mean": (ONNXFormat(1e-4, None), lambda folder: change_onnx_mean(folder / "backbone.onnx")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_differs_after_reloading_is_an_error_of_one_line(
    fault, vit, vit_onnx, tmp_path, monkeypatch
):
    form, change = FAULTS[fault]

    def faulty_write(self, backbone, size, folder):
        write(self, backbone, size, folder)
        change(folder)

    monkeypatch.setattr(ONNXFormat, "write", lambda self, backbone, size, folder: copy(vit_onnx, folder))
    write = type(form).write
    monkeypatch.setattr(type(form), "write", faulty_write)
    (tmp_path / "export.json").write_text(json.dumps({form.file: "older entry", "other": "stays"}))
    with pytest.raises(
        ConfigError, match=r"^tolerance=\S+: .* differs by at most .*; try tolerance="
    ) as caught:
        form.export(vit, 48, tmp_path, {})
    assert len(str(caught.value).splitlines()) == 1
    assert json.loads((tmp_path / "export.json").read_text()) == {"other": "stays"}


@pytest.mark.parametrize("form", [TimmFormat(1e-6), HFFormat(1e-6), ONNXFormat(1e-4, None)])
@pytest.mark.usefixtures("untyped")
def test_export_json_has_the_differences(form, vit, tmp_path, caplog):
    caplog.set_level("INFO")
    differences = form.export(vit, 48, tmp_path, {"checkpoint": "here"})
    record = json.loads((tmp_path / "export.json").read_text())[form.file]
    assert record["checkpoint"] == "here"
    assert record["max_abs_difference"] == differences
    assert record["tolerance"] == form.tolerance
    assert record["compared_on"] == "3 images with 3 channels of 48 x 48 and 48 x 64 pixels"
    images = [vit.normalize(example_images(3, 48, width)) for width in (48, 64)]
    pooled = {"forward", "pooled"} & differences.keys()
    with torch.no_grad():
        largest = max(vit(size).pooled.abs().max().item() for size in images)
    assert record["max_abs_value"][pooled.pop()] == largest
    for name in differences:
        assert f"{name} differs by at most" in caplog.text


def test_nan_outputs_are_an_error(vit, tmp_path):
    with torch.no_grad():
        vit.model.norm.bias[0] = torch.nan
    with pytest.raises(ConfigError, match="nan"):
        TimmFormat(0.5).export(vit, 48, tmp_path, {})


def test_max_difference_by_hand():
    assert max_difference(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.5, 2.0], [1.0, 4.0]])) == 2
    assert max_difference(torch.zeros(2, 3), torch.zeros(3, 2)) == math.inf


@pytest.mark.parametrize(("tolerance", "suggestion"), [(-0.1, "0.0"), (1, "0.9"), (math.nan, "0.0")])
def test_a_tolerance_outside_0_to_1_is_an_error(tolerance, suggestion):
    with pytest.raises(ConfigError, match=f"^tolerance=.*; try tolerance={suggestion}$"):
        TimmFormat(tolerance)


def test_example_images_are_the_same_on_each_call():
    assert torch.equal(example_images(2, 5, 6), example_images(2, 5, 6))
    assert example_images(2, 5, 6).shape == (3, 2, 5, 6)


@pytest.mark.parametrize("form", [TimmFormat(1e-6), HFFormat(1e-6)])
def test_a_backbone_that_is_no_timm_model_is_an_error_in_timms_formats(form, tmp_path):
    backbone = ModuleBackbone(nn.Conv2d(3, 4, 2, stride=2), dim=4, patch_size=2, name="mine")
    with pytest.raises(ConfigError, match=r"^backbone=mine: is not a model of timm.*; try format=onnx$"):
        form.export(backbone, 8, tmp_path, {})
