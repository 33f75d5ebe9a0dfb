"""Settings of the trainer that Lightning accepts, but a training here does not support."""

import math
from collections.abc import Mapping
from typing import Any

from cim_lightning.checks import check_at_least
from cim_lightning.config.setting_paths import is_computed
from cim_lightning.errors import ConfigError

NUMBERS = (
    *("accumulate_grad_batches", "check_val_every_n_epoch", "gradient_clip_val", "limit_train_batches"),
    *("limit_val_batches", "log_every_n_steps", "max_epochs", "max_steps", "num_sanity_val_steps"),
    "overfit_batches",
)
UNLIMITED = -1  # of max_epochs and max_steps


def has_budget(settings: Mapping[str, Any]) -> bool:
    """Return whether a budget sets the length of training.

    With `budget=[]`, the settings of a recipe's budget stay, without a class.
    """
    return "_target_" in (settings.get("budget") or {})


def check_trainer(trainer: Mapping[str, Any], has_length: bool) -> None:
    """Check the settings of a Trainer.

    Args:
        trainer: arguments of Lightning's Trainer.
        has_length: whether something else sets the length of training: a budget, or an evaluator.

    Raises:
        ConfigError: a number is out of range, the precision is not fp32 or mixed, training never ends, there
            is nothing to train on, or `overfit_batches` is set: Lightning cannot repeat the batches of our
            sampler.
    """
    if any(isinstance(trainer.get(name), str) for name in NUMBERS):
        return  # validate.check refuses it, after an import of Lightning
    for name in ("accumulate_grad_batches", "check_val_every_n_epoch"):
        check_at_least(f"trainer.{name}", trainer.get(name), 1)
    for name, low in {"log_every_n_steps": 0, "num_sanity_val_steps": -1}.items():
        check_at_least(f"trainer.{name}", trainer.get(name), low)
    _check_clipping(trainer.get("gradient_clip_val"))
    _check_batches("limit_train_batches", trainer.get("limit_train_batches"), low=1)
    _check_batches("limit_val_batches", trainer.get("limit_val_batches"), low=0)
    for name in ("callbacks", "logger"):
        if trainer.get(name) is not None:
            rule, hint = f"the group {name} sets it", f"try {name}=..., or +{name}.mine._target_=..."
            raise ConfigError(f"trainer.{name}", trainer[name], rule, hint=hint)
    if trainer.get("use_distributed_sampler"):
        rule = "the sampler of the data module divides the images over the devices"
        raise ConfigError("trainer.use_distributed_sampler", True, rule, suggest=False)
    if batches := trainer.get("overfit_batches"):
        rule = "Lightning would not train on the same images in every epoch"
        hint = f"try debug=overfit callbacks.overfit.num_batches={int(batches) if batches >= 1 else 1}"
        raise ConfigError("trainer.overfit_batches", batches, rule, hint=hint)
    if not has_length:
        _check_length(trainer)
    if not is_computed(trainer, "precision"):  # which imports torch, and is always valid
        _check_precision(str(trainer.get("precision", "32-true")))


def _check_precision(precision: str) -> None:
    precision = f"{precision}-true" if precision.isdigit() else precision  # Lightning's short form
    if precision.endswith("-true") and precision != "32-true":
        suggest = "32-true" if precision == "64-true" else precision.replace("true", "mixed")
        rule = "crops and weights must be in fp32"
        raise ConfigError("trainer.precision", precision, rule, suggest=suggest)


def _check_clipping(norm: float | None) -> None:
    if norm is not None and not 0 < norm < math.inf:  # Lightning would not clip at all
        rule = "must be above 0 and finite" if norm == math.inf else "must be above 0"
        raise ConfigError("trainer.gradient_clip_val", norm, rule, hint="null turns clipping off")


def _check_batches(name: str, limit: float | None, low: int) -> None:
    """Check a share (float) or a number (int) of batches."""
    if limit is None or (low <= limit if isinstance(limit, int) else low <= limit <= 1 or 0 < limit <= 1):
        return
    above = "above 0" if low else "at least 0"
    rule = f"must be a share, {above} and at most 1.0, or a number of batches, at least {low}"
    raise ConfigError(f"trainer.{name}", limit, rule, suggest=1.0)


def _check_length(trainer: Mapping[str, Any]) -> None:
    epochs, steps = trainer.get("max_epochs"), trainer.get("max_steps", UNLIMITED)
    endless = steps == UNLIMITED
    if epochs in (None, UNLIMITED) and endless:
        rule, hint = "the schedule needs an end", "try trainer.max_epochs=300, or set trainer.max_steps"
        raise ConfigError("trainer.max_epochs", epochs, rule, hint=hint)
    if epochs not in (None, UNLIMITED) and not epochs >= 1:
        hint = "try trainer.max_epochs=300, or method=random for an untrained backbone"
        raise ConfigError("trainer.max_epochs", epochs, "must be at least 1", hint=hint)
    if not endless and not steps >= 1:
        rule, hint = "must be at least 1", "-1 sets no limit"
        raise ConfigError("trainer.max_steps", steps, rule, hint=hint)
    every = trainer.get("check_val_every_n_epoch")
    if every is not None and endless and every > epochs and trainer.get("limit_val_batches") != 0:
        rule = f"training ends without a validation after {epochs} epoch(s)"
        raise ConfigError("trainer.check_val_every_n_epoch", every, rule, suggest=epochs)
