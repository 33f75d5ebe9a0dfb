"""`--help` of the commands with settings."""

import os
import sys

import pytest

from cim_lightning.cli import main
from cim_lightning.cli.help import print_help
from cim_lightning.config.flags import FLAGS


@pytest.mark.parametrize("command", ["pretrain", "evaluate", "export", "prepare"])
def test_help_has_every_group_setting_and_choice(command, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [f"cim-{command}", "seed=1", "--help"])
    with pytest.raises(SystemExit) as ended:
        getattr(main, command)()
    assert not ended.value.code
    text = capsys.readouterr().out
    assert text.startswith(f"cim-{command}: ")
    for part in (
        "output_dir=",
        "--cfg job",
        *{"pretrain": ("backbone=vit_base_patch16", "ablation/rotation")}.get(command, ()),
    ):
        assert part in text
    assert max(map(len, text.splitlines())) < 130


def test_a_reader_of_the_help_may_stop_early(capfd, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", closed)
        print_help("pretrain")
    assert not capfd.readouterr().err


def test_the_flags_are_those_of_hydra():
    from hydra._internal.utils import get_args_parser

    assert {flag for action in get_args_parser()._actions for flag in action.option_strings} == set(FLAGS)
