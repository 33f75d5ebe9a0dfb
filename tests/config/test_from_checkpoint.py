"""Backbones and methods from any weights, and settings of evaluators that a command does not run."""

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from cim_lightning.checkpoint import PlainWeights
from cim_lightning.config.from_checkpoint import (
    fill_from_checkpoint,
    load_backbone,
    load_method,
    without_weights,
)
from cim_lightning.errors import ConfigError
from cim_lightning.formats.timm_format import TimmFormat
from cim_lightning.methods.mae import MAE
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.timm_backbone import TimmBackbone


def test_settings_of_another_data_set_without_a_value_stay_for_hints():
    data = {"_target_": "x", "root": "/a", "train": None, "view_size": None, "channels": None}
    cfg = OmegaConf.create({"data": data, "backbone": "vit_small_patch16"})
    fill_from_checkpoint(cfg, PlainWeights("untrained", None))
    assert cfg.data.train is None
    assert "train" in cfg.data
    assert (cfg.data.root, cfg.data.view_size, cfg.data.channels) == ("/a", 224, 3)


@pytest.fixture(scope="module")
def module() -> TimmBackbone:
    """Build a backbone whose normalization differs from the default."""
    torch.manual_seed(0)
    return TimmBackbone("test_resnet", mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6]).eval()


def pooled(backbone: Backbone) -> torch.Tensor:
    """Return the features of fixed images in 0..1."""
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return backbone(backbone.normalize(images)).pooled


def test_a_run_is_loaded_as_a_method_and_as_a_backbone(run_pretrain, tiny, tmp_path):
    tiny.remove("cropping=small")
    run_pretrain(*tiny, "method=mae", "backbone.mean=[0.1,0.2,0.3]", "output_dir=run")
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    state = torch.load(path, weights_only=True)["state_dict"]
    for where in (tmp_path / "run", path):
        method = load_method(where)
        assert isinstance(method, MAE)
        assert not method.training
        assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())
        assert method.state_dict().keys() == state.keys()
        backbone = load_backbone(where)
        assert not backbone.training
        assert backbone.normalization["mean"] == [0.1, 0.2, 0.3]
        assert torch.equal(pooled(backbone), pooled(method.eval_backbone))
    assert torch.equal(pooled(load_backbone(tmp_path / "run" / "backbone.safetensors")), pooled(backbone))
    with pytest.raises(ConfigError, match=r"^backbone: \S+ already has an architecture; remove backbone"):
        load_backbone(path, "resnet18")


def test_an_exported_backbone_is_no_run(module, tmp_path):
    TimmFormat(0).write(module, 32, tmp_path)
    assert torch.equal(pooled(load_backbone(str(tmp_path))), pooled(module))
    with pytest.raises(ConfigError, match=r"^path=\S+: is not a run, but a backbone; try load_backbone$"):
        load_method(tmp_path)


def test_timm_weights_are_loaded_into_a_choice_or_a_backbone(module, tmp_path):
    save_file(module.timm_model().state_dict(), tmp_path / "timm.safetensors")
    own = TimmBackbone("test_resnet", **module.normalization)
    assert load_backbone(tmp_path / "timm.safetensors", own) is own
    assert torch.equal(pooled(own), pooled(module))
    chosen = load_backbone(
        tmp_path / "timm.safetensors", "resnet18", name="test_resnet", **module.normalization
    )
    assert torch.equal(pooled(chosen), pooled(module))
    with pytest.raises(ConfigError, match=r"^checkpoint=\S+: timm weights do not fit resnet18"):
        load_backbone(tmp_path / "timm.safetensors", "resnet18")


def test_an_untrained_choice_with_other_settings():
    backbone = load_backbone(
        "untrained", "vit_micro_patch4", kwargs={"embed_dim": 24, "depth": 2}, init="timm"
    )
    assert (backbone.name, backbone.dim, len(backbone.blocks())) == ("vit_tiny_patch16_224", 24, 2)
    assert backbone.patch_size == 4  # of the choice
    assert not backbone.training


@pytest.mark.parametrize(
    ("backbone", "settings", "message"),
    [
        (None, {}, r"^backbone: these weights have no architecture; try backbone="),
        ("resnet19", {}, r"^backbone=resnet19: no such backbone; did you mean backbone=resnet18\?$"),
        ("resnet18", {"nam": "x"}, r"^backbone\.nam=x: .* no such setting; did you mean backbone\.name=x\?$"),
        ("resnet18", {"std": [1.0]}, r"^backbone\.std=\[1\.0\]: must have one value for each"),
        ("resnet18", {"freeze_patch_embed": 3}, r"^backbone\.freeze_patch_embed=3: must be bool"),
        (TimmBackbone("test_resnet"), {"mean": [0.5]}, r"^mean: can be changed for a choice"),
    ],
)
def test_a_mistake_gets_one_line(backbone, settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_backbone("untrained", backbone, **settings)
    assert "\n" not in str(caught.value)


def test_the_weights_of_the_start_are_not_part_of_a_checkpoint():
    backbone = {"_target_": "b", "weights": "lost.pth", "weights_layout": "mae", "kwargs": {"depth": 2}}
    earlier = {"_target_": "b", "kwargs": {"pretrained": True, "checkpoint_path": "lost.pth", "depth": 2}}
    settings = {"seed": 1, "method": {"_target_": "m", "backbone": backbone}}
    plain = backbone | {"weights": None, "weights_layout": "auto"}
    assert without_weights(settings) == {"seed": 1, "method": {"_target_": "m", "backbone": plain}}
    assert settings["method"]["backbone"]["weights"] == "lost.pth"  # as recorded
    without = without_weights({"method": {"backbone": earlier}})
    assert without == {"method": {"backbone": {"_target_": "b", "kwargs": {"depth": 2}}}}
    own = {"_target_": "mine", "size": 3}
    assert without_weights({"method": {"backbone": own}}) == {"method": {"backbone": own}}
