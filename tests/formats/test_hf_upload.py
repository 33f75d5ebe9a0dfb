"""Upload to Hugging Face, tested against a local server, and the model card."""

import importlib.util
import json
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
import yaml
from huggingface_hub import ModelCard

from cim_lightning.errors import ConfigError
from cim_lightning.formats.hf_format import HFFormat
from cim_lightning.formats.model_card import model_card

spec = importlib.util.spec_from_file_location("hub_server", Path(__file__).with_name("hub_server.py"))
hub_server = importlib.util.module_from_spec(spec)
sys.modules["hub_server"] = hub_server
spec.loader.exec_module(hub_server)

INFO = {
    "backbone": "vit_small_patch16_224",
    "method": "Masked autoencoders",
    "data": "1,300 (folder)",
    "training": {"Epochs": 3},
    "numbers": {"k-NN accuracy": "44.40 %"},
}


@pytest.fixture
def hub(monkeypatch):
    with hub_server.running_hub() as server:
        # as the environment variable HF_ENDPOINT would set them at the start of the process
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setenv("HF_TOKEN", "hf_right")
        yield server


@pytest.mark.user_input("export", "`cim-export format=hf push=OWNER/NAME`", "the checked folder is uploaded")
def test_the_folder_is_uploaded_and_loads_from_its_files(vit, tmp_path, hub, caplog):
    caplog.set_level("INFO")
    HFFormat(1e-6, push="me/my-vit").export(vit, 64, tmp_path / "export", INFO)
    assert hub.private == {"me/my-vit": True}
    files = hub.repositories["me/my-vit"]
    assert files.keys() == {"config.json", "model.safetensors", "README.md"}
    assert caplog.messages[-1].endswith(f"to {hub.url}/me/my-vit")
    copy = tmp_path / "downloaded"
    copy.mkdir()
    for name, content in files.items():
        (copy / name).write_bytes(content)
    loaded = timm.create_model(f"local-dir:{copy}", pretrained=True, num_classes=0).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(images), vit(images).pooled)


def test_a_card_in_the_repository_is_not_replaced(vit, tmp_path, hub):
    hub.repositories["me/my-vit"] = {"README.md": b"edited by its owner"}
    HFFormat(1e-6, push="me/my-vit").export(vit, 64, tmp_path, INFO)
    assert hub.repositories["me/my-vit"]["README.md"] == b"edited by its owner"
    assert {"config.json", "model.safetensors"} < hub.repositories["me/my-vit"].keys()


@pytest.mark.user_input("export", "`push=` with a wrong token", "one line; the folder stays")
def test_a_wrong_token_is_an_error_of_one_line(vit, tmp_path, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(
        ConfigError, match=r"^push=me/my-vit: the upload of .* failed \(.*401.*; log in"
    ) as error:
        HFFormat(1e-6, push="me/my-vit").export(vit, 64, tmp_path, INFO)
    assert len(str(error.value).splitlines()) == 1
    assert hub.repositories == {}
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.user_input("export", "`push=` without a network", "one line; the folder stays")
def test_no_network_is_an_error_of_one_line(vit, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    with pytest.raises(ConfigError, match=r"^push=me/my-vit: the upload of .* failed \(.*refused") as error:
        HFFormat(1e-6, push="me/my-vit").export(vit, 64, tmp_path, INFO)
    assert len(str(error.value).splitlines()) == 1
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    "name", ["mine", "me/", "/mine", "me/my/mine", "me/my vit", "https://huggingface.co/me/mine"]
)
def test_a_repository_without_an_owner_is_an_error(name):
    with pytest.raises(ConfigError, match=r"^push=.*: must be OWNER/NAME of a repository; try push=me/"):
        HFFormat(1e-6, push=name)


def test_nothing_is_uploaded_if_the_comparison_fails(vit, tmp_path, hub, monkeypatch):
    monkeypatch.setattr("cim_lightning.formats.format.max_difference", lambda expected, loaded: 0.5)
    with pytest.raises(ConfigError, match=r"^tolerance="):
        HFFormat(1e-6, push="me/my-vit").export(vit, 64, tmp_path, INFO)
    assert hub.repositories == {}


def test_the_card_has_method_data_numbers_and_no_license(vit, tmp_path):
    HFFormat(1e-6).export(vit, 48, tmp_path, INFO)
    text = (tmp_path / "README.md").read_text()
    card = ModelCard(text)
    assert card.data.library_name == "timm"
    assert card.data.license is None
    assert yaml.safe_load(text.split("---")[1])["pipeline_tag"] == "image-feature-extraction"
    for line in (
        "# vit_small_patch16_224",
        "* **Architecture:** vit_small_patch16_224 (depth=1, embed_dim=16, num_heads=2, patch_size=8, "
        "img_size=[64, 64], dynamic_img_size=True)",
        "* **Method:** Masked autoencoders",
        "* **Training images:** 1,300 (folder)",
        "* **Image size:** 48 x 48 pixels",
        "* **Epochs:** 3",
        "| k-NN accuracy | 44.40 % |",
        'model = timm.create_model("local-dir:FOLDER", pretrained=True, num_classes=0).eval()',
    ):
        assert line in text.splitlines()


@pytest.mark.user_input("export", "a second export after an edit of README.md", "the edited README.md stays")
def test_an_edited_card_is_not_replaced(vit, tmp_path, hub, caplog):
    caplog.set_level("INFO")
    card = tmp_path / "README.md"
    HFFormat(1e-6).export(vit, 48, tmp_path, INFO)
    HFFormat(1e-6).export(vit, 48, tmp_path, INFO | {"data": "9 (folder)"})
    assert "9 (folder)" in card.read_text()
    assert "stays as it is" not in caplog.text
    edited = card.read_text().replace("---\n", "---\nlicense: mit\n", 1)
    card.write_text(edited)
    for _ in range(2):
        HFFormat(1e-6, push="me/my-vit").export(vit, 48, tmp_path, INFO)
        assert card.read_text() == edited
        assert f"{card} was edited, and stays as it is" in caplog.text
    assert hub.repositories["me/my-vit"]["README.md"] == edited.encode()


@pytest.mark.user_input("export", "an output folder with a README.md", "the README.md stays")
def test_a_foreign_readme_is_not_replaced(vit, tmp_path):
    (tmp_path / "README.md").write_text("# My project")
    HFFormat(1e-6).export(vit, 48, tmp_path, INFO)
    assert (tmp_path / "README.md").read_text() == "# My project"


def test_a_card_of_unknown_weights_has_only_facts_of_the_file(tmp_path):
    config = {"architecture": "resnet18", "num_features": 512, "pretrained_cfg": {"input_size": [3, 32, 64]}}
    text = model_card({}, config, "me/mine")
    assert "# mine\n" in text
    assert "* **Image size:** 32 x 64 pixels" in text
    assert 'timm.create_model("hf-hub:me/mine"' in text
    assert "None" not in text
    assert "Method" not in text
    assert "## Measured" not in text


def test_export_json_is_readable_again(vit, tmp_path):
    HFFormat(1e-6).export(vit, 48, tmp_path, INFO)
    assert json.loads((tmp_path / "export.json").read_text())["model.safetensors"]["training"] == {
        "Epochs": 3
    }
