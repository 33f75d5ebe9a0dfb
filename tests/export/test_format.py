"""What is written wrongly is not called done."""

import json
import math
from shutil import copy

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from cim_lightning.errors import ConfigError
from cim_lightning.export.format import difference
from cim_lightning.export.hf_folder import Hub
from cim_lightning.export.input_spec import Images, normalized
from cim_lightning.export.onnx_graph import Graph
from cim_lightning.export.timm_weights import Weights


def move_weight(path):
    state = load_file(path)
    name = next(name for name, tensor in state.items() if tensor.ndim == 2)
    state[name][0, 0] += 0.1
    save_file(state, path)


def move_mean(path, *where):
    said = node = json.loads(path.read_text())
    for key in where:
        node = node[key]
    node["mean"] = [0.2, 0.4, 0.6]
    path.write_text(json.dumps(said))


def move_weight_of_graph(path):
    model = onnx.load(path)
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "model.norm.bias")
    moved = onnx.numpy_helper.to_array(weight).copy()
    moved[0] += 0.1
    weight.CopyFrom(onnx.numpy_helper.from_array(moved, weight.name))
    onnx.save(model, path)


def move_mean_of_graph(path):
    model = onnx.load(path)
    (mean,) = (entry for entry in model.metadata_props if entry.key == "mean")
    mean.value = "[0.2, 0.4, 0.6]"
    onnx.save(model, path)


FAULTS = {
    "weight of weights": (Weights(1e-6), lambda folder: move_weight(folder / "backbone.safetensors")),
    "mean of weights": (Weights(1e-6), lambda folder: move_mean(folder / "backbone.json", "normalize")),
    "weight of hub": (Hub(1e-6), lambda folder: move_weight(folder / "model.safetensors")),
    "mean of hub": (Hub(1e-6), lambda folder: move_mean(folder / "config.json", "pretrained_cfg")),
    "weight of graph": (Graph(1e-4, None), lambda folder: move_weight_of_graph(folder / "backbone.onnx")),
    "mean of graph": (Graph(1e-4, None), lambda folder: move_mean_of_graph(folder / "backbone.onnx")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_reads_back_otherwise_is_an_error_of_one_line(
    fault, vit, vit_graph, images, tmp_path, monkeypatch
):
    form, move = FAULTS[fault]

    def wrongly(self, backbone, images, folder):
        rightly(self, backbone, images, folder)
        move(folder)

    monkeypatch.setattr(Graph, "write", lambda self, backbone, images, folder: copy(vit_graph, folder))
    rightly = type(form).write
    monkeypatch.setattr(type(form), "write", wrongly)
    (tmp_path / "export.json").write_text(json.dumps({form.file: "an older one", "other": "stays"}))
    with pytest.raises(ConfigError, match=r"format.tolerance=\S+: .* differs by at most .*; try ") as caught:
        form.export(vit, images, tmp_path, {})
    assert len(str(caught.value).splitlines()) == 1
    assert json.loads((tmp_path / "export.json").read_text()) == {"other": "stays"}


@pytest.mark.parametrize("form", [Weights(1e-6), Hub(1e-6), Graph(1e-4, None)])
def test_the_record_says_the_difference(form, vit, images, tmp_path, caplog):
    caplog.set_level("INFO")
    differences = form.export(vit, images, tmp_path, {"checkpoint": "here"})
    record = json.loads((tmp_path / "export.json").read_text())[form.file]
    assert record["checkpoint"] == "here"
    assert record["max_abs_difference"] == differences
    assert record["tolerance"] == form.tolerance
    shown = normalized(images.fixed(), images.mean, images.std)
    pooled = {"forward", "pooled"} & differences.keys()
    with torch.no_grad():
        assert record["max_abs_value"][pooled.pop()] == vit(shown).pooled.abs().max().item()
    for name in differences:
        assert f"{name} differs by at most" in caplog.text


def test_a_backbone_that_says_nan_is_not_exported(vit, images, tmp_path):
    with torch.no_grad():
        vit.model.norm.bias[0] = torch.nan
    with pytest.raises(ConfigError, match="nan"):
        Weights(0.5).export(vit, images, tmp_path, {})


def test_the_difference_is_the_largest_one():
    assert difference(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.5, 2.0], [1.0, 4.0]])) == 2
    assert difference(torch.zeros(2, 3), torch.zeros(3, 2)) == math.inf


@pytest.mark.parametrize(("tolerance", "nearest"), [(-0.1, "=0$"), (1, "=0.1$"), (math.nan, "=0.1$")])
def test_a_tolerance_is_a_share(tolerance, nearest):
    with pytest.raises(ConfigError, match=f"format.tolerance=.*{nearest}"):
        Weights(tolerance)


def test_images_are_fixed_and_normalised_by_channel():
    images = Images(2, 3, {"mean": [0.5], "std": [0.1, 0.2]})
    assert (images.mean, images.std) == ([0.5, 0.5], [0.1, 0.2])
    assert (images._replace(normalize=None).mean, images._replace(normalize=None).std) == ([0, 0], [1, 1])
    assert torch.equal(images.fixed(), images.fixed())
    assert images.fixed().shape == (3, 2, 3, 3)
    half = normalized(torch.full((1, 2, 1, 1), 0.7), images.mean, images.std)
    torch.testing.assert_close(half.flatten(), torch.tensor([2.0, 1.0]))
    with pytest.raises(ConfigError, match=r"cropping.normalize=.*mean for each of the 2 channels"):
        images._replace(normalize={"_target_": "mine"}).mean  # noqa: B018
