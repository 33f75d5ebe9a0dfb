"""The path of a setting in the line about a user's error. tests/cli/test_main.py tests whole lines."""

import errno

import pytest
from omegaconf import OmegaConf

from cim_lightning.config import messages
from cim_lightning.errors import ConfigError, format_value

CFG = OmegaConf.create(
    {
        "decoder": {"depth": 0, "width": 16},
        "method": {"decoder": "${decoder}", "reduction": "sum"},
        "data": {"batch_size": 8, "source": {"val_fraction": 0.1}},
        "evaluation": {
            "knn": {"k": 1},
            "linear": {"batch_size": 0, "optim": {"lr": -1}},
            "finetune": {"classifier": {"view": {"scale": [2, 1]}}},
        },
        "cropping": {"scale": [2, 1]},
        "optim": {"base_lr": 0.1},
        "hydra": {"depth": 0},
    }
)


@pytest.mark.parametrize(
    ("parameter", "value", "group", "path"),
    [
        ("depth", 0, "", "decoder.depth"),
        ("depth", 0, "method", "decoder.depth"),  # the definition, not its use
        ("val_fraction", 0.1, "data", "data.source.val_fraction"),
        ("batch_size", 8, "", "data.batch_size"),
        ("batch_size", 0, "", "evaluation.linear.batch_size"),  # the one with this value
        ("lr", -1, "evaluation.linear", "evaluation.linear.optim.lr"),
        ("lr", -1, "data", "evaluation.linear.optim.lr"),
        ("scale", [2, 1], "", "cropping.scale"),
        ("scale", [2, 1], "evaluation.finetune", "evaluation.finetune.classifier.view.scale"),
        ("unknown", 1, "", "unknown"),
    ],
)
def test_a_parameter_gets_the_path_of_its_setting(parameter, value, group, path):
    error = ConfigError(parameter, value, "no", suggest=3)
    error.group = group
    assert messages.explain(error, "evaluate", CFG) == f"{path}={format_value(value)}: no; try {path}=3"


VIEWS = OmegaConf.create(
    {
        "data": {"view_size": 100, "root": "/x", "download": False},
        "cropping": {"size": "${data.view_size}", "local_crop": {"size": 96}},
        "callbacks": {"last": {"folder": "/y"}},
        "evaluation": {"segmentation": {"source": {"root": "/z", "ignore": [255]}}},
    }
)


def explain(error: ConfigError, group: str = "") -> str | None:
    error.group = group
    return messages.explain(error, "pretrain", VIEWS)


def test_a_parameter_that_refers_to_another_setting_gets_the_path_of_that():
    line = explain(ConfigError("size", 100, "must be a multiple of 16", suggest=96))
    assert line == "data.view_size=100: must be a multiple of 16; try data.view_size=96"


def test_a_setting_with_another_value_is_not_named():
    assert explain(ConfigError("folder", "/x/1", "has no images")) == "folder=/x/1: has no images"


def test_other_settings_in_a_hint_get_their_paths():
    line = explain(ConfigError("root", "/x", "has no CIFAR10", hint="set download=true"))
    assert line == "data.root=/x: has no CIFAR10; set data.download=true"


def test_an_argument_of_timm_in_a_hint_can_be_copied():
    hint = "try kwargs.init_values=1e-5 kwargs.depth=3"  # the first is new, the second has another value
    error = ConfigError("weights", "w.pth", "does not fit", hint=hint)
    cfg = OmegaConf.create(
        {"backbone": {"weights": "w.pth", "kwargs": {"depth": 2}}, "method": {"backbone": "${backbone}"}}
    )
    for error.group in ("", "method"):
        line = messages.explain(error, "pretrain", cfg)
        assert str(line).endswith("; try +backbone.kwargs.init_values=1e-5 backbone.kwargs.depth=3")


def test_an_argument_of_timm_in_a_hint_is_found_from_the_checkpoint_of_an_evaluation():
    cfg = OmegaConf.create({"checkpoint": "w.pth", "backbone": {"kwargs": {}}})
    error = ConfigError("checkpoint", "w.pth", "does not fit", hint="add kwargs.qk_norm=true")
    line = messages.explain(error, "evaluate", cfg)
    assert line == "checkpoint=w.pth: does not fit; add +backbone.kwargs.qk_norm=true"


def test_an_error_of_a_data_worker_gets_its_path_too():
    text = "Caught ConfigError in DataLoader worker process 0.\nConfigError: root=/z: label 7; try ignore=[7]"
    line = explain(ConfigError(text), group="evaluation.segmentation")
    source = "evaluation.segmentation.source"
    assert line == f"{source}.root=/z: label 7; try {source}.ignore=[7]"


def test_a_message_without_a_parameter_stays_unchanged():
    assert messages.explain(ConfigError("data: no labels"), "evaluate", CFG) == "data: no labels"


def test_the_command_line_is_quoted_with_its_last_override():
    error = OSError(13, "Permission denied", "/root/runs/x")
    arguments = ["output_dir=/tmp", "seed=1", "output_dir=/root/runs/x"]
    line = messages.explain(error, "pretrain", CFG, arguments)
    assert line == "output_dir=/root/runs/x: cannot be written (Permission denied); try another output_dir"
    line = messages.explain(error, "pretrain", CFG, ["seed=1"])
    assert line == "/root/runs/x: Permission denied"


@pytest.mark.user_input(
    "path", "a working directory that cannot be written", "one line: try another output_dir"
)
def test_a_default_output_folder_that_cannot_be_written_gets_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("outputs", f"{tmp_path}/outputs"):
        error = OSError(errno.EACCES, "Permission denied", name)
        line = messages.explain(error, "pretrain", CFG, ["seed=1"])
        assert line == f"output_dir={name}: cannot be written (Permission denied); try another output_dir"


@pytest.mark.fault("disk", "the output folder is read-only", "one line: try another output_dir")
def test_a_file_in_the_output_folder_that_cannot_be_written_gets_the_line_of_the_folder():
    error = OSError(errno.EROFS, "Read-only file system", "/runs/a/metrics.csv")
    line = messages.explain(error, "pretrain", CFG, ["output_dir=/runs/a"])
    assert line == "output_dir=/runs/a: cannot be written (Read-only file system); try another output_dir"


def test_an_output_folder_in_quotes_is_found():
    error = OSError(errno.EROFS, "Read-only file system", "/runs (1)/x")
    line = messages.explain(error, "pretrain", CFG, ['output_dir="/runs (1)/x"'])
    assert line == (
        'output_dir="/runs (1)/x": cannot be written (Read-only file system); try another output_dir'
    )


@pytest.mark.user_input(
    "path",
    "a disk that is full",
    "one line: free some space and run the same command to resume",
    source="https://github.com/pytorch/pytorch/issues/10577",
)
def test_a_full_disk_gets_one_line():
    end = "if the disk is full, free some space and run the same command to resume"
    error = OSError(errno.ENOSPC, "No space left on device", "/runs/a/metrics.csv")
    assert messages.explain(error, "pretrain") == f"/runs/a/metrics.csv: No space left on device; {end}"
    error = RuntimeError(
        "[enforce fail at inline_container.cc:595] . PytorchStreamWriter failed writing file"
    )
    assert messages.explain(error, "pretrain") == f"a checkpoint cannot be written; {end}"
    error = OSError(errno.EFBIG, "File too large", "/runs/a/checkpoints/last.ckpt")  # of `ulimit -f`
    line = "output_dir=/runs/a: cannot be written (File too large); try another output_dir"
    assert messages.explain(error, "pretrain", arguments=["output_dir=/runs/a"]) == line


def test_a_file_that_a_user_did_not_choose_is_no_mistake_of_the_user():
    assert messages.explain(FileNotFoundError(errno.ENOENT, "No such file", "/x/y"), "pretrain") is None


def test_an_advice_names_the_settings():
    cfg = OmegaConf.create(
        {"optim": {"base_lr": 1}, "trainer": {"precision": "x"}, "a": {"k": 1}, "b": {"k": 1}}
    )
    line = "a lower rate (base_lr), precision=32-true, k=3, other=4 in x/base_lr=1"
    expected = "a lower rate (optim.base_lr), trainer.precision=32-true, k=3, other=4 in x/base_lr=1"
    assert messages.name_settings(line, cfg) == expected
    assert messages.name_settings(line, None) == line
