"""The Python API: the same objects and numbers as the commands."""

import copy
import json

import pytest
import timm
import torch

import cim_lightning as cim
from cim_lightning.api import _compose, _context
from cim_lightning.errors import ConfigError
from cim_lightning.lightning_internals import quiet


@pytest.fixture
def run(tiny, tmp_path):
    with quiet():
        return cim.compose(*tiny, "trainer.max_epochs=1", f"output_dir={tmp_path}/run")


def test_a_composed_run_trains_as_the_command_does(run, tiny, tmp_path, run_pretrain):
    with quiet():
        run.trainer.validate(run.method, run.data, verbose=False)
        run.trainer.fit(run.method, run.data)
    run_pretrain(*tiny, "trainer.max_epochs=1", "output_dir=command")
    ours, command = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("run", "command")
    )
    assert ours.keys() == command.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, command[name]), name


def test_weights_of_a_run_evaluate_and_export(run, tmp_path):
    with quiet():
        run.trainer.fit(run.method, run.data)
    method, backbone = cim.load(tmp_path / "run"), cim.load_backbone(tmp_path / "run")
    assert type(method) is type(run.method)
    assert not method.training
    for name, tensor in run.method.eval_backbone.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], tensor)
        assert torch.equal(method.eval_backbone.state_dict()[name], tensor)

    overrides = ["evaluation.knn.ks=[3]"]
    numbers = cim.evaluate(backbone, run.data, ["knn"], *overrides, folder=tmp_path / "results")
    assert set(numbers) == {"knn/mean_k3", "knn/pooled_k3"}
    assert all(0 <= value <= 100 for value in numbers.values())
    assert cim.evaluate(method, run.data, "knn", *overrides) == numbers
    results = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert results["knn/mean_k3"] == numbers["knn/mean_k3"]

    differences = cim.export(backbone, tmp_path / "exported")
    assert set(differences.values()) == {0.0}
    config = json.loads((tmp_path / "exported" / "backbone.json").read_text())
    assert config["image_size"] == 32
    weights = str(tmp_path / "exported" / "backbone.safetensors")
    model = timm.create_model(**config["create_model"], checkpoint_path=weights).eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(model(images), backbone(images).pooled)
    again = cim.load_backbone(tmp_path / "exported" / "backbone.safetensors")
    assert torch.equal(again.eval()(images).grid, backbone(images).grid)


def test_evaluators_that_need_a_method_are_skipped_or_refused(run):
    backbone = run.method.eval_backbone
    with pytest.raises(ConfigError, match="correlation needs"):
        cim.evaluate(backbone, run.data, ["correlation"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=mea"], r"method=mea: no such method; did you mean method=mae\?"),
        (["data.batchsize=3"], r"data.batchsize=3: .*did you mean data\.batch_size=3\?"),
        (["cropping.num_exemplars=0"], r"cropping.num_exemplars=0: must be at least 1"),
        (["data=folder", "data.root=/nowhere"], r"data.root=/nowhere: .*"),
    ],
)
def test_an_error_names_the_setting(overrides, message):
    with pytest.raises(ConfigError, match=message):
        cim.compose("trainer=cpu", "logger=[csv]", "backbone=vit_micro_patch4", *overrides)


def test_an_export_needs_the_image_size_of_an_unknown_backbone(run, tmp_path):
    with pytest.raises(ConfigError, match=r"image_size=null: is not known .*; try image_size=224"):
        cim.export(run.method.eval_backbone, tmp_path / "exported")


def test_public_names_are_listed():
    assert set(cim.__all__) <= set(dir(cim))


def test_an_unknown_evaluator_is_named(run):
    with pytest.raises(ConfigError, match="evaluation=nearest: no such evaluation"):
        cim.evaluate(run.method, run.data, "nearest")


def test_results_of_another_cropping_batch_or_seed_are_not_reused(run, tmp_path):
    cfg = _compose("evaluate", ["checkpoint=untrained", "paths.run=results", "data.view_size=32"])
    keys = []
    for name, value in (("seed", 0), ("seed", 1), ("batch_size", 3), ("cropping", torch.nn.Identity())):
        data = copy.copy(run.data)
        setattr(data, name, value)
        keys.append(json.dumps(_context(run.method, data, tmp_path, cfg).cache_key, sort_keys=True))
    assert len(set(keys)) == 4
