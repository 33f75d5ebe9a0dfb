"""Which settings can change the result of a run: the one table for resume, run names, reports and caches."""

import re
from collections.abc import Iterable
from typing import Any

# Top-level settings and groups that cannot change a result.
WITHOUT_EFFECT = {
    "output_dir",
    "resume",
    "compile",
    "compile_mode",
    "logger",
    "callbacks",
    "paths",
    "hydra",
    "evaluation",
    "segmentation_data",
}
WITHOUT_EFFECT_ANYWHERE = {
    "cache",
    "changed",
    "max_bad_share",
    "num_workers",
    "timeout",
}  # by the last part of their key
# A run resumes with other values of these settings if the images of an optimizer step stay as many.
DIVIDE_STEPS = {
    "data.batch_size",
    "method.batch_size",
    "trainer.accumulate_grad_batches",
    "trainer.devices",
    "trainer.num_nodes",
}
FIXED_IN_TRAINER = {
    "trainer.gradient_clip_val",
    "trainer.gradient_clip_algorithm",
    "trainer.limit_train_batches",
}
# A run resumes with another value of these settings if the images have the same fingerprint.
NAMES_IMAGES = {"data.root", "data.train", "data.val", "data.name"}
# Two commands that differ only in these overrides start the same run or sweep.
SAME_COMMAND = ("output_dir=", "hydra.mode=", "hydra.sweep.dir=", "hydra/launcher=", "hydra.launcher.")
# A command with one of these settings does not resume automatically.
FOLDER_SETTINGS = {"output_dir", "resume", "hydra.run.dir", "hydra.sweep.dir"}


def changes_result(key: str) -> bool:
    """Return whether the setting, such as "data.root" or the choice "hydra/launcher", can change a result."""
    parts = re.split(r"[./]", key)
    return parts[0] not in WITHOUT_EFFECT and parts[-1] not in WITHOUT_EFFECT_ANYWHERE


def distinguishes_runs(key: str) -> bool:
    """Return whether runs with different values of the setting belong to different rows of a table.

    Settings that change only the speed do: tables show it.
    """
    return key != "seed" and re.split(r"[./]", key)[0] not in WITHOUT_EFFECT - {"compile", "compile_mode"}


def may_change_on_resume(key: str) -> bool:
    """Return whether a run may resume with another value of the setting.

    Of DIVIDE_STEPS, the data module checks the values together.
    """
    in_trainer = key.startswith("trainer.") and key not in FIXED_IN_TRAINER
    return not changes_result(key) or in_trainer or key in DIVIDE_STEPS


def may_change_when_finished(key: str) -> bool:
    """Return whether a finished run stays finished with another value of the setting, unlike its length."""
    checked = key.startswith(("trainer.max", "trainer.fast_dev_run")) or key in DIVIDE_STEPS
    return may_change_on_resume(key) and not checked


def result_settings(settings: Any) -> Any:
    """Return plain nested settings of one group without those that cannot change a result."""
    if isinstance(settings, dict):
        keys = settings.keys() - WITHOUT_EFFECT_ANYWHERE
        return {key: result_settings(value) for key, value in settings.items() if key in keys}
    return [result_settings(value) for value in settings] if isinstance(settings, list) else settings


def same_command(*commands: Iterable[str]) -> bool:
    """Return whether two lists of overrides start the same run or sweep, in any folder and launcher."""
    first, second = (sorted(o for o in overrides if not o.startswith(SAME_COMMAND)) for overrides in commands)
    return first == second
