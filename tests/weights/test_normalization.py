"""The files beside weights that say how the images were normalized: of any program, complete or not."""

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import nn

from cim_lightning.checkpoint import read_weights
from cim_lightning.errors import ConfigError
from cim_lightning.weights.normalization import read_normalization

MODEL = nn.Linear(2, 2)


@pytest.mark.user_input("weights", "a damaged config.json beside the weights", "one line that names the file")
@pytest.mark.parametrize(
    ("weights", "name"),
    [
        ("backbone.safetensors", "backbone.json"),
        ("model.safetensors", "config.json"),
        ("pytorch_model.bin", "preprocessor_config.json"),
    ],
)
@pytest.mark.parametrize("content", ['{"mean": [0.5', "[1]"])
def test_a_damaged_description_gets_one_line(weights, name, content, tmp_path):
    (tmp_path / name).write_text(content)
    message = rf"^weights={tmp_path / name}: is beside the weights, but damaged; restore the file, or"
    with pytest.raises(ConfigError, match=message):
        read_normalization(tmp_path / weights, MODEL)


def test_a_damaged_export_gets_one_line(tmp_path):
    save_file(MODEL.state_dict(), tmp_path / "backbone.safetensors")
    (tmp_path / "backbone.json").write_text("{")
    with pytest.raises(
        ConfigError, match=r"^checkpoint=\S+backbone\.json: is beside the weights, but damaged"
    ):
        read_weights(str(tmp_path))


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ("a", "b"),
        ([[0.5], [0.5], [0.5]], [0.5, 0.5, 0.5]),
        ([None, 0.5, 0.5], [0.5, 0.5, 0.5]),
        ([0.5, 0.5, 0.5], [0.5]),
        ([0.5, 0.5, 0.5], None),
    ],
)
def test_values_that_are_no_normalization_are_unknown(mean, std, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std}))
    assert read_normalization(tmp_path / "model.safetensors", MODEL) is None


@pytest.mark.parametrize("entry", ["x", [1], None])
def test_a_foreign_pretrained_cfg_is_ignored(entry, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": entry}))
    images = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(images))
    expected = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    assert read_normalization(tmp_path / "model.safetensors", MODEL) == expected


def test_one_value_of_transformers_is_that_of_every_channel(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": 0.5, "image_std": 0.25}')
    expected = {"mean": [0.5] * 3, "std": [0.25] * 3}
    assert read_normalization(tmp_path / "model.safetensors", MODEL) == expected


@pytest.mark.user_input(
    "weights",
    "`checkpoints/last.ckpt` beside a config.yaml of another program",
    "loaded; mean and std unknown",
)
@pytest.mark.parametrize("content", ["backbone: resnet50", "- 1", "", "a: !!python/object:os.x {}", "a: ["])
def test_the_settings_of_another_program_are_ignored(content, tmp_path):
    (tmp_path / "config.yaml").write_text(content)
    assert read_normalization(tmp_path / "checkpoints" / "last.ckpt", MODEL) is None


def test_the_settings_of_a_run_are_found_from_its_folder_of_checkpoints(tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text("backbone: {mean: [0.1], std: [0.2]}")
    monkeypatch.chdir(tmp_path / "checkpoints")
    assert read_normalization(Path("last.ckpt"), MODEL) == {"mean": [0.1], "std": [0.2]}
