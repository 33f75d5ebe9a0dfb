"""Which settings can change the result of a run: the one table for resume, run names, reports and caches."""

import re
from collections.abc import Iterable
from typing import Any

# Top-level settings and groups that cannot. `evaluation` measures a run; it does not train it.
WITHOUT_EFFECT = {"output_dir", "resume", "compile", "logger", "callbacks", "paths", "hydra", "evaluation"}
WITHOUT_EFFECT_ANYWHERE = {"num_workers"}  # by the last part of their key
# Length, hardware and precision may change on resume, so that a run can move to another machine. These
# settings of the trainer may not: they change the size of a step, or the images of an epoch.
FIXED_IN_TRAINER = {
    "trainer.accumulate_grad_batches",
    "trainer.gradient_clip_val",
    "trainer.gradient_clip_algorithm",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.limit_train_batches",
}
# Two commands that differ in these overrides only start the same run or sweep.
SAME_COMMAND = ("output_dir=", "hydra.mode=", "hydra.sweep.dir=", "hydra/launcher=", "hydra.launcher.")


def changes_result(key: str) -> bool:
    """Return whether the setting, such as "data.root" or the choice "hydra/launcher", can change a result."""
    parts = re.split(r"[./]", key)
    return parts[0] not in WITHOUT_EFFECT and parts[-1] not in WITHOUT_EFFECT_ANYWHERE


def may_change_on_resume(key: str) -> bool:
    """Return whether a run may resume with another value of the setting."""
    return not changes_result(key) or (key.startswith("trainer.") and key not in FIXED_IN_TRAINER)


def result_settings(settings: Any) -> Any:
    """Return plain nested settings of one group without those that cannot change a result."""
    if isinstance(settings, dict):
        return {
            key: result_settings(value)
            for key, value in settings.items()
            if key not in WITHOUT_EFFECT_ANYWHERE
        }
    return [result_settings(value) for value in settings] if isinstance(settings, list) else settings


def same_command(overrides: Iterable[str], others: Iterable[str]) -> bool:
    """Return whether two commands start the same run or sweep; its folder and launcher do not count."""
    return _identifying(overrides) == _identifying(others)


def _identifying(overrides: Iterable[str]) -> list[str]:
    return sorted(override for override in overrides if not override.startswith(SAME_COMMAND))
