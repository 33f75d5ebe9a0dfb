"""`--help` of the commands with settings: groups and their choices, from the comments in conf/."""

import os
import re
import sys
import textwrap
from collections.abc import Iterator

from cim_lightning.config.choices import choices_of
from cim_lightning.config.compose import CONF

EXAMPLES = {
    "pretrain": (
        "cim-pretrain experiment=demo",
        "cim-pretrain data=folder data.root=/my/images backbone=vit_small_patch16 trainer.max_epochs=100",
        "cim-pretrain -m experiment=demo seed=0,1,2",
    ),
    "evaluate": (
        "cim-evaluate checkpoint=RUN evaluation=[knn,linear]",
        "cim-evaluate checkpoint=RUN data=folder data.root=/my/images evaluation=finetune",
    ),
    "export": ("cim-export checkpoint=RUN", "cim-export checkpoint=RUN format=onnx"),
    "prepare": (
        "cim-prepare stats data.root=/my/images",
        "cim-prepare archives data.root=/my/images task.folder=/fast/archives",
    ),
}
FLAGS = """\
  -m            run one job per combination of values: seed=0,1,2
  --cfg job     print the composed settings, without a run
  --config-dir  folder with configuration files of your own
  --hydra-help  flags of Hydra"""
GROUP = re.compile(r"  - (?!override)([\w/]+): (.*?)(?: # (.*))?$", re.MULTILINE)
SETTING = re.compile(r"^(?:# (.*)\n)?(\w+): ([^#\n]+?)(?: +# (.*))?$", re.MULTILINE)


def print_help(command: str) -> None:
    """Print the help of a command, such as "pretrain"; a reader may stop early, as `head` does."""
    try:
        print("\n".join(_lines(command)), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit


def _lines(command: str) -> Iterator[str]:
    text = (CONF / f"{command}.yaml").read_text("utf-8")
    yield re.sub(r"^# | `cim-\w+ --help`.*", "", text.splitlines()[0])
    yield from ("", "Examples", *(f"  {example}" for example in EXAMPLES[command]))
    yield from ("", "Groups: group=choice")
    for group, default, comment in GROUP.findall(text):
        yield f"  {group}={default}  # {comment}" if comment else f"  {group}={default}"
        choices = ", ".join(choices_of(group))
        yield from textwrap.wrap(choices, 96, initial_indent="      ", subsequent_indent="      ")
    yield from ("", "Settings: setting=value; `--cfg job` prints those of the groups")
    for above, name, value, comment in SETTING.findall(text):
        shown = "..." if "${" in value else value
        yield f"  {name}={shown}  # {above or comment}"
    yield from ("", "Flags", FLAGS)
