"""Every number and switch that can change a result changes the weights, or is refused."""

from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from cim_lightning.config import consistency
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.config.result_settings import changes_result
from cim_lightning.config.run_builder import build_run
from cim_lightning.errors import ConfigError
from cim_lightning.lightning_internals import quiet

BASE = [
    *("paths.run=run", "output_dir=run", "logger=[]", "trainer=cpu", "data.num_workers=0"),
    *("backbone=vit_micro_patch4", "backbone.kwargs.depth=1", "backbone.kwargs.embed_dim=32"),
    *("data.source.num_train=12", "data.source.num_val=2", "data.source.image_size=32"),
    *("data.view_size=32", "data.batch_size=4", "trainer.max_epochs=1", "trainer.limit_val_batches=0"),
    *(f"callbacks.{name}=null" for name in ("last", "best", "panels", "knn", "throughput", "progress")),
    "+trainer.enable_checkpointing=false",
    *("callbacks.run_summary=null", "optim.base_lr=0.1", "trainer.gradient_clip_val=0.01"),
]
# Settings without an effect on these three steps, with the reason.
NO_EFFECT = {
    "compile": "speed only",
    "compile_mode": "speed only",
    "data.timeout": "a limit for errors",
    "data.max_bad_share": "a limit for errors",
    "data.source.num_val": "validation only",
    "trainer.check_val_every_n_epoch": "validation only",
    "trainer.limit_val_batches": "validation only",
    "trainer.log_every_n_steps": "logging only",
    "trainer.num_sanity_val_steps": "validation only",
    "trainer.enable_model_summary": "display only",
    "trainer.enable_checkpointing": "files only",
    "data.bits": "images of 8 bits become the same floats",
    "cropping.min_context": "a limit, for masks with less context",
    "method.target_temperature.share": "less than one of three steps",
    "method.freeze_last_layer": "less than one of three steps",
    "method.head.weight": "AdamW and clipping are invariant to the scale of the loss",
    "trainer.devices": "the same images per step need other settings",
    "backbone.in_channels": "follows data.channels, and another value is refused",
    "backbone.kwargs.dynamic_img_size": "whether other sizes are accepted",
}


def composed(*overrides: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("pretrain", [*BASE, *overrides])
    OmegaConf.set_struct(cfg, False)
    return cfg


def settings_of(cfg: DictConfig) -> dict[str, Any]:
    """Return the values of all numbers and switches that can change a result, by path."""
    found: dict[str, Any] = {}

    def walk(node: Any, path: str) -> None:
        for name in node:
            key = f"{path}.{name}".lstrip(".")
            if not changes_result(key) or OmegaConf.is_interpolation(node, name) or name == "hydra":
                continue
            if isinstance(node[name], DictConfig):
                walk(node[name], key)
            elif isinstance(node[name], bool | int | float) and str(name)[0] != "_":
                found[key] = node[name]

    walk(cfg, "")
    return {key: value for key, value in found.items() if key not in NO_EFFECT}


def weights(cfg: DictConfig) -> torch.Tensor:
    """Return all parameters after three steps."""
    consistency.check_pretraining(cfg)
    with quiet():
        run = build_run(OmegaConf.to_container(cfg, resolve=True))  # pyright: ignore
        run.trainer.fit(run.method, run.data)
    return torch.cat([p.detach().flatten() for p in run.method.parameters()])


def others(value: Any) -> list[Any]:
    """Return other values of a setting, of which the first that is in its range is tried."""
    if isinstance(value, bool):
        return [not value]
    step = 1 if isinstance(value, int) else 0.5
    half = value / 2 if isinstance(value, float) else value // 2
    return [value * 2, half, value + step, value - step]


def check_effect(cfg: DictConfig, key: str, value: Any, unchanged: torch.Tensor) -> None:
    for other in [other for other in others(value) if other != value]:
        changed = OmegaConf.create(cfg)
        OmegaConf.update(changed, key, other)
        try:
            result = weights(changed)
        except (ConfigError, InstantiationException) as error:
            if "ConfigError" not in f"{type(error).__name__} {error}":
                raise
            continue
        assert not torch.equal(result, unchanged), f"{key}={other} has no effect"
        return


SAMPLE = (
    *("cropping.rotation", "target.momentum", "optim.warmup", "trainer.gradient_clip_val", "data.view_flip"),
)


def test_a_sample_of_the_settings_changes_the_weights():
    cfg = composed("cropping=small", "decoder=cross_attention_small")
    found, unchanged = settings_of(cfg), weights(cfg)
    assert len(found) > 35
    for key in SAMPLE:
        check_effect(cfg, key, found[key], unchanged)


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(file.stem for file in (CONF / "method").glob("[!r]*.yaml")))
def test_every_setting_changes_the_weights(method, method_overrides):
    cim = ["cropping=small", "decoder=cross_attention_small"] if method == "cim" else []
    cfg = composed(f"method={method}", *cim, *method_overrides[method])
    unchanged = weights(cfg)
    without_effect = []
    for key, value in settings_of(cfg).items():
        try:
            check_effect(cfg, key, value, unchanged)
        except AssertionError as error:
            without_effect.append(str(error).splitlines()[0])
    assert not without_effect, "\n".join(without_effect)
