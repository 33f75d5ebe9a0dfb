"""Check that the settings of a command fit together and this machine, before anything is built.

These checks need the configuration only. A constructor checks its own parameters.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cim_lightning.config.machine import format_bytes, memory_bytes, num_cores
from cim_lightning.config.trainer_settings import check_trainer, has_budget
from cim_lightning.errors import ConfigError

# Groups whose members are built one by one, and may be null.
MEMBERS = ("callbacks", "logger", "evaluation")
# Groups of a pre-training that only other settings refer to, as in `method.decoder: ${decoder}`.
REFERRED = ("backbone", "cropping", "decoder", "target", "optim", "segmentation_data")
RESUME_POINTS = ("last", "previous")  # checkpoints of callbacks.last, without the suffix
LENGTHS = ("trainer.max_epochs", "trainer.max_steps", "trainer.max_time")
WORKERS_PER_CORE = 4
MIN_WORKERS = 16  # that any machine may have, such as for images on a network drive
PREFETCHED = 2  # batches per worker, torch's default


def check(cfg: DictConfig, overrides: Sequence[str] = ()) -> None:
    """Check the settings of a command. `validate.check` calls it before it imports anything slow.

    Args:
        cfg: with interpolations.
        overrides: of the command line.

    Raises:
        ConfigError: a setting makes no sense, or the command line sets what nothing reads.
    """
    given = given_settings(overrides)
    _check_members(cfg, given)
    _check_used(cfg, given)
    _check_budget(cfg, given)
    _check_checkpoints(cfg.get("callbacks") or {})
    if "data" in cfg and cfg.data.get("_target_"):
        _check_workers(cfg.data.get("num_workers"))
        _check_memory(cfg.data)


def check_pretraining(cfg: DictConfig, overrides: Sequence[str] = ()) -> None:
    """Check the settings of a pre-training, see `check`."""
    check(cfg, overrides)
    check_trainer(cfg.trainer, has_length=has_budget(cfg))
    labels, share = OmegaConf.select(cfg, "method.labels"), OmegaConf.select(cfg, "data.label_share")
    if labels is not None and share != labels:
        hint = "leave data.label_share out"
        raise ConfigError("data.label_share", share, f"must be method.labels, {labels}", hint=hint)


def given_settings(overrides: Sequence[str]) -> dict[str, str]:
    """Return the values of the command line as text, by setting."""
    pairs = (override.lstrip("+").partition("=") for override in overrides if not override.startswith("~"))
    return {key: value for key, _, value in pairs}


def _check_members(cfg: DictConfig, given: Mapping[str, str]) -> None:
    """Require groups and members of groups that are null or have a class."""
    folder = OmegaConf.select(cfg, "paths.run")
    if "paths" in cfg and not isinstance(folder, str):
        raise ConfigError("paths.run", folder, "must be a folder", hint="set output_dir instead")
    for group in MEMBERS:
        for name, member in (cfg.get(group) or {}).items():
            if member is not None and not (isinstance(member, DictConfig) and "_target_" in member):
                value = OmegaConf.to_container(member) if OmegaConf.is_config(member) else member
                rule = "must be null, or settings with a class as _target_"
                raise ConfigError(f"{group}.{name}", value, rule, suggest=None)
    for group in ("budget", "method", "data", "trainer") if "method" in cfg else ():
        node = cfg.get(group)
        if given.get(group) in ("[]", "null"):  # the command switches off what a recipe sets
            continue
        if isinstance(node, DictConfig) and node and "_target_" not in node:
            name = next(iter(node))
            rule = f"there are settings of {group}, but no option of it is chosen"
            raise ConfigError(f"{group}.{name}", node[name], rule, hint=f"try {group}=null, or an option")


def _check_used(cfg: DictConfig, given: Mapping[str, str]) -> None:
    """Require that other settings read the groups that the command line sets."""
    referred = REFERRED if "method" in cfg else ("segmentation_data",)
    plain = str(OmegaConf.to_container(cfg, resolve=False))
    for key, value in given.items():
        node = OmegaConf.select(cfg, key, throw_on_resolution_failure=False)
        if value == "{}" and isinstance(node, DictConfig) and node:
            raise ConfigError(key, {}, "changes nothing", hint="choose an option, or set one of its settings")
        group = re.split(r"[.@]", key)[0]
        if group not in referred or group not in cfg or value in ("null", "[]"):
            continue
        if not re.search(r"\$\{[^}]*\b" + group + r"\b", plain):
            rule = "nothing else in this command reads it"
            raise ConfigError(key, value, rule, hint=f"leave {group} out")


def _check_budget(cfg: DictConfig, given: Mapping[str, str]) -> None:
    """Refuse a second length of training beside a budget, and steps that it would count as whole ones."""
    if not has_budget(cfg):
        return
    for key in LENGTHS:
        if key in given and given[key] not in ("null", "-1"):
            rule = "the budget sets the length of training"
            raise ConfigError(
                key, given[key], rule, hint=f"leave it out, or try budget=[] {key}={given[key]}"
            )
    limit, accumulate = (cfg.trainer.get(n) for n in ("limit_train_batches", "accumulate_grad_batches"))
    if not isinstance(accumulate, int) or accumulate < 2 or not isinstance(limit, int | float):
        return
    if limit % accumulate if isinstance(limit, int) else limit < 1:
        rule = f"with a budget, it must be a multiple of trainer.accumulate_grad_batches={accumulate}"
        whole = max(int(limit) // accumulate, 1) * accumulate
        raise ConfigError("trainer.limit_train_batches", limit, rule, suggest=whole)


def _check_checkpoints(callbacks: Mapping[str, Any]) -> None:
    """Refuse a callback that overwrites the checkpoint from which a run resumes."""
    for name, callback in callbacks.items():
        if not isinstance(callback, DictConfig):
            continue
        if (filename := callback.get("filename")) in RESUME_POINTS:
            rule = f"callbacks.last writes {filename}.ckpt, from which the run resumes"
            raise ConfigError(f"callbacks.{name}.filename", filename, rule, suggest="best")
        if callback.get("save_last"):
            rule = "callbacks.last writes last.ckpt, from which the run resumes"
            raise ConfigError(f"callbacks.{name}.save_last", True, rule, suggest=False)


def _check_workers(workers: int | None) -> None:
    """Refuse more processes for decoding than a machine can run."""
    cores = num_cores()
    if workers is not None and workers > max(WORKERS_PER_CORE * cores, MIN_WORKERS):
        rule = f"each worker is a process, and this machine has {cores} core(s)"
        raise ConfigError("data.num_workers", workers, rule, suggest=max(cores - 1, 1))


def _check_memory(data: DictConfig) -> None:
    """Refuse views that do not fit into memory: the batches of the workers, and one view as floats."""
    side, images, workers = data.get("view_size"), data.get("batch_size"), data.get("num_workers") or 0
    if side is None or images is None:
        return
    values, available = side**2 * (data.get("channels") or 3), memory_bytes()
    view, floats = values * (data.get("bits") or 8) // 8, values * 4
    batches = 1 + PREFETCHED * workers
    needed = view * images * batches + floats
    if needed <= available:
        return
    rule = f"the views in memory need {format_bytes(needed)}, and this machine has {format_bytes(available)}"
    if view + floats > available / 10:
        raise ConfigError("data.view_size", side, rule, suggest=224)
    if view * images * (1 + PREFETCHED) + floats > available:
        raise ConfigError("data.batch_size", images, rule, suggest=max(images * available // (4 * needed), 1))
    suggest = int((available - floats) / (view * images) - 1) // PREFETCHED
    raise ConfigError("data.num_workers", workers, rule, suggest=suggest)
