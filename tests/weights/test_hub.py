"""Weights of timm and of the Hugging Face Hub, from a local stand-in of the Hub."""

from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors.torch import save_file

from cim_lightning.errors import ConfigError
from cim_lightning.models.timm_backbone import TimmBackbone
from cim_lightning.weights import hub
from cim_lightning.weights.reader import read_state


class LocalHub:
    """Repositories in folders of a directory, in the place of huggingface_hub.hf_hub_download."""

    def __init__(self, root: Path):
        self.root, self.requests = root, []

    def __call__(self, repo_id: str, filename: str, revision: str | None = None, **kwargs) -> str:
        self.requests.append((repo_id, filename, revision))
        path = self.root / repo_id / filename
        if not path.exists():
            raise EntryNotFoundError(f"404 of {path}")
        return str(path)


@pytest.fixture
def local_hub(tmp_path, monkeypatch) -> LocalHub:
    stand_in = LocalHub(tmp_path)
    monkeypatch.setattr(hub, "hf_hub_download", stand_in)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", stand_in)
    return stand_in


def pretrained(name: str, folder: Path, file: str = "model.safetensors") -> dict[str, torch.Tensor]:
    """Write random weights of a model, with its classifier, into a folder."""
    state = {
        key: torch.randn_like(t) if t.ndim else t for key, t in timm.create_model(name).state_dict().items()
    }
    folder.mkdir(parents=True)
    save_file(state, folder / file) if file.endswith("safetensors") else torch.save(state, folder / file)
    return state


IMAGES = {"mean": [0.5] * 3, "std": [0.5] * 3}  # of the weights of timm's small test models


def loaded_state(backbone: TimmBackbone) -> dict[str, torch.Tensor]:
    return backbone.timm_model().state_dict()


@pytest.mark.user_input("weights", "`backbone.weights=timm`", "timm's pretrained weights of the model")
def test_timms_own_weights(local_hub):
    state = pretrained("test_vit", local_hub.root / "timm" / "test_vit.r160_in1k")
    torch.manual_seed(0)
    backbone = TimmBackbone("test_vit", weights="timm", **IMAGES)
    after = torch.rand(1)
    loaded = loaded_state(backbone)
    assert loaded
    assert all(torch.equal(loaded[name], state[name]) for name in loaded)
    assert backbone.loaded_weights.layout == "timm's test_vit.r160_in1k"
    torch.manual_seed(0)
    TimmBackbone("test_vit")
    assert torch.equal(torch.rand(1), after), "the download does not change other random numbers"


def test_a_tag_in_the_name_of_the_model_selects_the_weights(local_hub):
    state = pretrained("test_resnet", local_hub.root / "timm" / "test_resnet.r160_in1k")
    loaded = loaded_state(TimmBackbone("test_resnet.r160_in1k", weights="timm", **IMAGES))
    assert torch.equal(loaded["conv1.0.weight"], state["conv1.0.weight"])


@pytest.mark.user_input(
    "weights", "`backbone.weights=timm` for a model without pretrained weights", "one line"
)
def test_a_model_without_pretrained_weights_is_refused():
    name = next(name for name in timm.list_models("vit_*") if not timm.models.is_model_pretrained(name))
    model = torch.nn.Module()
    model.pretrained_cfg = {"architecture": name}
    message = f"^weights=timm: timm has no pretrained weights of {name}; give a file, or the name of"
    with pytest.raises(ConfigError, match=message):
        hub.timm_state(model)


def test_timms_own_weights_have_no_layout():
    message = "^weights_layout=mae: timm's own weights have one layout; try weights_layout=auto$"
    with pytest.raises(ConfigError, match=message):
        read_state("timm", timm.create_model("test_vit"), "mae")


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.user_input("weights", "`backbone.weights=hf-hub:OWNER/NAME@REVISION`", "its weights")
def test_a_repository_of_the_hub(file, local_hub):
    state = pretrained("test_vit", local_hub.root / "me" / "vit", file)
    loaded = loaded_state(TimmBackbone("test_vit", weights="hf-hub:me/vit@v2"))
    assert all(torch.equal(loaded[name], state[name]) for name in loaded)
    assert ("me/vit", file, "v2") in local_hub.requests
    assert {(repository, revision) for repository, _, revision in local_hub.requests} == {("me/vit", "v2")}


@pytest.mark.user_input("weights", "a repository of the Hub without weights", "one line")
def test_a_repository_without_weights_is_refused(local_hub):
    message = (
        r"^weights=hf-hub:me/x: has neither model\.safetensors nor pytorch_model\.bin; download the file"
    )
    with pytest.raises(ConfigError, match=message):
        hub.download("hf-hub:me/x")


@pytest.mark.parametrize("weights", ["timm", "hf-hub:me/vit"])
@pytest.mark.user_input("weights", "a Hub that cannot be reached", "one line; only one file is tried")
def test_no_network_is_one_line(weights, local_hub, monkeypatch):
    requests = []

    def fail(*args, **kwargs):
        requests.append(args)
        raise LocalEntryNotFoundError("An error happened while trying to locate the file.\nMore lines")

    monkeypatch.setattr(hub, "hf_hub_download", fail)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", fail)
    with pytest.raises(ConfigError) as error:
        read_state(weights, timm.create_model("test_vit"))
    line = f"weights={weights}: cannot be downloaded (An error happened while trying to locate the file.); "
    assert str(error.value) == line + "download the file and give its path"
    if weights != "timm":
        assert len(requests) == 1
