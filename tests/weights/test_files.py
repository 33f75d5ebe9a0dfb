"""Files that are no weights are refused in one line, and nothing in a file runs."""

import argparse
import os
import pathlib
import pickle
import re
import sys
import tarfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import omegaconf
import pytest
import torch
from lightning.fabric.utilities.data import AttributeDict
from safetensors.torch import save_file

from cim_lightning.checkpoint import read_weights
from cim_lightning.errors import ConfigError
from cim_lightning.weights.file import load
from cim_lightning.weights.location import find_file
from cim_lightning.weights.names import flatten
from cim_lightning.weights.normalization import read_normalization
from cim_lightning.weights.reader import read_state

WEIGHTS = {"blocks.0.weight": torch.arange(600.0).reshape(20, 30)}


class _Calls:
    """Pickled as a call of a function."""

    def __init__(self, function: Any, *args: Any):
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def torch_bytes(content: Any, legacy: bool, path: Path) -> bytes:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path.read_bytes()


def npz_bytes(path: Path) -> bytes:
    np.savez(path, **{"embedding/kernel": np.ones(3)})
    return path.with_suffix(".npz").read_bytes()


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        load(path, "weights")
    line = str(error.value)
    assert line.isprintable(), "one line without control characters"
    assert line.startswith(f"weights={path}: ")
    return line.removeprefix(f"weights={path}: ")


# Content of a file, and the line about it.
REFUSED = [
    pytest.param(
        b"",
        "is empty; download the file again",
        marks=pytest.mark.user_input("weights", "an empty file", "one line"),
    ),
    pytest.param(
        b"\n<!DOCTYPE html>\n<html><head>",
        "is a web page, not weights; download the file again",
        marks=pytest.mark.user_input("weights", "a web page saved as `.pth`", "one line"),
    ),
    pytest.param(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0d71\nsize 19332096\n",
        "is a pointer of Git LFS, not the file; run git lfs pull",
        marks=pytest.mark.user_input(
            "weights",
            "a pointer of Git LFS",
            "one line with the command",
            source="https://github.com/mahmoodlab/HIPT/issues/36",
        ),
    ),
    pytest.param(
        pickle.dumps({"model": 1}),
        "is a pickle of Python objects, which could run code; save the weights with torch.save",
        marks=pytest.mark.user_input("weights", "a `.pkl` of Python objects", "one line; nothing runs"),
    ),
    (b"backbone:\n  name: vit\n", "is a text file; give the path of the weights"),
    (
        b"\x89HDF\r\n\x1a\n" + bytes(100),
        "is an HDF5 file of Keras; try the PyTorch weights of the same model",
    ),
    (b"\x1f\x8b\x08" + bytes(100), "is compressed; unpack it with gunzip"),
    (b"PK\x03\x04" + bytes(100), "is incomplete; download the file again"),
    (b"\x89PNG\r\n\x1a\n" + bytes(100), "is an image; give the path of the weights"),
]


@pytest.mark.parametrize(("content", "line"), REFUSED)
def test_a_file_that_is_no_weights_is_refused_in_one_line(content, line, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    assert refusal(path) == line


@pytest.mark.user_input("weights", "a `.npz` of JAX or Flax", "one line")
def test_an_archive_of_numpy_is_refused(tmp_path):
    path = tmp_path / "vit.pth"
    path.write_bytes(npz_bytes(tmp_path / "a"))
    assert refusal(path).startswith("is an archive of NumPy arrays, as of JAX; try the PyTorch weights")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
@pytest.mark.user_input("weights", "a program of TorchScript", "one line")
def test_a_program_of_torchscript_is_refused(tmp_path):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "a.pt"))
    assert refusal(tmp_path / "a.pt").startswith(
        "is a program of TorchScript, which could run code; save its"
    )


@pytest.mark.user_input("weights", "a `.pth.tar` that is a tar archive", "one line")
def test_a_tar_archive_is_refused(tmp_path):
    (tmp_path / "weights.pth").write_bytes(bytes(1000))
    with tarfile.open(tmp_path / "a.pth.tar", "w") as archive:
        archive.add(tmp_path / "weights.pth", "weights.pth")
    assert refusal(tmp_path / "a.pth.tar") == "is a tar archive; unpack it"


REASON = "cannot be read as weights (Unsupported operand 149); download or save it again"


@pytest.mark.user_input("weights", "a file of `torch.save(..., pickle_protocol=5)`", "one line")
def test_another_pickle_protocol_is_refused(tmp_path):
    torch.save(WEIGHTS, tmp_path / "a.pth", pickle_protocol=5)
    assert refusal(tmp_path / "a.pth") == REASON


def test_the_long_error_of_torch_becomes_one_line(tmp_path, monkeypatch):
    def fail(*args: Any, **kwargs: Any) -> None:
        long = "Weights only load failed, \x1b[1mif you trust it\x1b[0m.\n\tWeightsUnpickler error: \n\n"
        raise pickle.UnpicklingError(
            f"{long}Unsupported \x1b[1moperand\x1b[0m 149\n\nCheck the documentation."
        )

    torch.save(WEIGHTS, tmp_path / "a.pth")
    monkeypatch.setattr(torch, "load", fail)
    assert refusal(tmp_path / "a.pth") == REASON


@pytest.mark.parametrize("weights", ["", " ", "https://example.org/vit.pth"])
@pytest.mark.user_input("weights", "nothing, or an address of the web", "one line")
def test_weights_are_a_path_or_a_repository(weights):
    message = f"^weights={weights}: must be a path, timm or hf-hub:OWNER/NAME; download the file and give its"
    with pytest.raises(ConfigError, match=message):
        read_state(weights, torch.nn.Linear(2, 2))


@pytest.mark.parametrize("checkpoint", [" ", "https://example.org/vit.pth"])
def test_a_checkpoint_is_a_path_or_a_repository(checkpoint):
    with pytest.raises(ConfigError, match=f"^checkpoint={checkpoint}: must be a path, timm or hf-hub:OWNER"):
        read_weights(checkpoint)


def test_the_home_of_an_unknown_user_does_not_exist():
    with pytest.raises(ConfigError, match=r"^weights=~nobody_here/vit\.pth: does not exist"):
        find_file("~nobody_here/vit.pth", "weights")


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.user_input("weights", "an incomplete download", "one line")
def test_an_incomplete_file_is_refused(kind, share, tmp_path):
    path = tmp_path / "weights.pth"
    if kind == "safetensors":
        save_file(WEIGHTS, path)
    else:
        torch_bytes(WEIGHTS, kind == "legacy", path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    line = refusal(path)
    assert re.search("is incomplete|cannot be read as weights", line)
    assert line.endswith(("download the file again", "download or save it again"))


@pytest.mark.parametrize("content", [torch.ones(2), [torch.ones(2)], 3])
def test_content_without_names_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    assert refusal(tmp_path / "a.pth").endswith("not weights by name")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin", ".tar"])
@pytest.mark.user_input("weights", "a file with another suffix, such as safetensors in `.pth`", "loaded")
def test_the_content_decides_not_the_suffix(suffix, tmp_path):
    save_file(WEIGHTS, tmp_path / f"a{suffix}")
    torch_bytes(WEIGHTS, False, tmp_path / f"b{suffix}")
    torch_bytes(WEIGHTS, True, tmp_path / f"c{suffix}")
    for name in "abc":
        assert torch.equal(
            load(tmp_path / f"{name}{suffix}", "weights")["blocks.0.weight"], WEIGHTS["blocks.0.weight"]
        )


class _Node(dict):
    """Stands for yacs.config.CfgNode: a dictionary with attributes."""


@pytest.fixture
def yacs_node(monkeypatch) -> dict:
    module = type(sys)("yacs.config")
    _Node.__module__, _Node.__qualname__ = "yacs.config", "CfgNode"
    module.CfgNode = _Node
    monkeypatch.setitem(sys.modules, "yacs", type(sys)("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    node = _Node(MODEL="swin")
    node.__dict__["__immutable__"] = False
    return node


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(
            argparse.Namespace(lr=1e-3, path=pathlib.Path("/data")),
            marks=pytest.mark.user_input(
                "weights",
                "a checkpoint with `argparse.Namespace`",
                "the weights are loaded",
                source="https://github.com/naver/mast3r/issues/114",
            ),
        ),
        pytest.param(
            omegaconf.OmegaConf.create({"a": [1, {"b": 2}]}),
            marks=pytest.mark.user_input(
                "weights",
                "a checkpoint with settings of omegaconf",
                "the weights are loaded",
                source="https://github.com/open-retina/open-retina/pull/186",
            ),
        ),
        AttributeDict(lr=0.1),
        defaultdict(list, {"a": [1]}),
        {"best": np.float64(83.1), "history": np.arange(3)},
    ],
    ids=lambda value: type(value).__name__,
)
def test_weights_beside_other_objects_load(settings, legacy, tmp_path):
    content = torch_bytes({"args": settings, "model": WEIGHTS}, legacy, tmp_path / "a.pth")
    assert content
    assert flatten(load(tmp_path / "a.pth", "weights"))["model.blocks.0.weight"].equal(
        WEIGHTS["blocks.0.weight"]
    )


@pytest.mark.user_input("weights", "a checkpoint of Swin or SimMIM with `yacs.config.CfgNode`", "loaded")
def test_weights_beside_a_yacs_configuration_load(yacs_node, tmp_path):
    torch.save({"config": yacs_node, "model": WEIGHTS}, tmp_path / "a.pth")
    assert [*flatten(load(tmp_path / "a.pth", "weights"))] == ["model.blocks.0.weight"]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("function", "named"),
    [(os.system, r"\w+\.system"), (eval, r"(builtins\.)?eval"), (exec, r"(builtins\.)?exec")],
)
@pytest.mark.user_input("weights", "a file that would run code when it is loaded", "one line; nothing runs")
def test_nothing_in_a_file_runs(function, named, legacy, tmp_path):
    code = f"open({str(tmp_path / 'evil')!r}, 'w')"
    command = f"touch {tmp_path / 'evil'}" if function is os.system else code
    path = tmp_path / "a.pth"
    torch_bytes({"model": WEIGHTS, "x": _Calls(function, command)}, legacy, path)
    assert re.match(
        rf"holds {named}, which is not loaded because it could run code; where you", refusal(path)
    )
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_functions_of_modules_are_replaced_and_do_not_run(legacy, tmp_path):
    path = tmp_path / "a.pth"
    torch_bytes({"model": WEIGHTS, "x": _Calls(np.save, str(tmp_path / "evil.npy"), 1)}, legacy, path)
    assert [*flatten(load(path, "weights"))] == ["model.blocks.0.weight"]
    assert not (tmp_path / "evil.npy").exists()


class _OwnDictionary(dict):
    pass


def test_an_unknown_dictionary_is_named(tmp_path):
    torch.save({"model": _OwnDictionary(WEIGHTS)}, tmp_path / "a.pth")
    assert re.match(r"holds \S+\._OwnDictionary, which is not loaded", refusal(tmp_path / "a.pth"))


class TestFolders:
    @pytest.mark.parametrize(
        "files",
        [
            ["checkpoints/last.ckpt", "backbone.safetensors"],
            ["backbone.safetensors", "model.safetensors"],
            ["model.safetensors", "pytorch_model.bin", "config.json"],
            ["epoch=3.ckpt", "notes.txt"],
        ],
    )
    @pytest.mark.user_input("weights", "a folder: run, export, Hugging Face, or with one file", "its weights")
    def test_the_first_file_is_taken(self, files, tmp_path):
        for name in files:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        assert find_file(tmp_path, "weights") == tmp_path / files[0]

    @pytest.mark.user_input("weights", "a folder without weights, or with several files", "one line")
    def test_none_and_several_are_refused(self, tmp_path):
        hint = "has neither a run nor weights; give the path of a file"
        with pytest.raises(ConfigError, match=f"^weights={tmp_path}: {hint}$"):
            find_file(tmp_path, "weights")
        for name in ("a.pth", "b.pth"):
            (tmp_path / name).touch()
        hint = f"has 2 files of weights; choose one, such as {tmp_path / 'a.pth'}"
        with pytest.raises(ConfigError, match=f"^weights={tmp_path}: {hint}$"):
            find_file(tmp_path, "weights")

    def test_a_misspelt_name_has_a_suggestion(self, tmp_path):
        (tmp_path / "vit_small.pth").touch()
        message = f"vit_smal.pth: does not exist; did you mean {tmp_path / 'vit_small.pth'}\\?$"
        with pytest.raises(ConfigError, match=message):
            find_file(tmp_path / "vit_smal.pth", "weights")


@pytest.mark.user_input("weights", "a file in the working directory, without a folder", "loaded")
def test_the_name_of_a_file_is_enough(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(torch.nn.Linear(2, 2).state_dict(), tmp_path / "w.safetensors")
    state = read_state("w.safetensors", torch.nn.Linear(2, 2))
    assert [*state.tensors] == ["bias", "weight"]
    assert read_normalization(state.path, torch.nn.Linear(2, 2)) is None


def test_ordered_dictionaries_and_parameters_are_weights(tmp_path):
    torch.save(OrderedDict(a=torch.nn.Parameter(torch.ones(2)), b=3), tmp_path / "a.pth")
    tensors = flatten(load(tmp_path / "a.pth", "weights"))
    assert [*tensors] == ["a"]
    assert not tensors["a"].requires_grad
