"""The table of settings that can change a result."""

import subprocess
import sys

import pytest

from cim_lightning.config.result_settings import (
    changes_result,
    may_change_on_resume,
    may_change_when_finished,
    result_settings,
)


@pytest.mark.parametrize(
    ("key", "result", "resume"),
    [
        ("seed", True, False),
        ("data.batch_size", True, True),
        ("data.num_workers", False, True),
        ("method", True, False),
        ("budget.images", True, False),
        ("trainer.max_epochs", True, True),
        ("trainer.precision", True, True),
        ("trainer.devices", True, True),
        ("trainer.accumulate_grad_batches", True, True),
        ("trainer.gradient_clip_val", True, False),
        ("trainer.gradient_clip_algorithm", True, False),
        ("trainer.num_nodes", True, True),
        ("trainer.limit_train_batches", True, False),
        ("compile", False, True),
        ("compile_mode", False, True),
        ("output_dir", False, True),
        ("hydra/launcher", False, True),
        ("hydra.launcher.n_jobs", False, True),
        ("callbacks.panels", False, True),
        ("evaluation", False, True),
        ("evaluation.knn.ks", False, True),
    ],
)
def test_settings_that_change_a_result_and_settings_that_may_change_on_resume(
    key: str, result: bool, resume: bool
) -> None:
    assert (changes_result(key), may_change_on_resume(key)) == (result, resume)


@pytest.mark.parametrize(
    ("key", "finished"),
    [
        ("trainer.max_epochs", False),
        ("trainer.max_steps", False),
        ("trainer.precision", True),
        ("trainer.devices", False),  # the images of an optimizer step are checked
        ("seed", False),
    ],
)
def test_a_finished_run_with_another_length_is_not_finished(key: str, finished: bool) -> None:
    assert may_change_when_finished(key) == finished


def test_nested_settings_lose_those_without_effect_only() -> None:
    settings = {"root": "x", "num_workers": 3, "views": [{"num_workers": 1, "size": 8}], "limit": None}
    assert result_settings(settings) == {"root": "x", "views": [{"size": 8}], "limit": None}


def test_the_table_needs_no_hydra() -> None:
    code = (
        "import sys, cim_lightning.config.result_settings; assert not {'hydra', 'omegaconf'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
