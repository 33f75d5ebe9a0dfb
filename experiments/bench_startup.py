"""Time of processes: imports, `--help`, refused commands, and `cim-pretrain` up to the end of its first step.

Every variant is a fresh process; its processor time is measured from outside, with the start of Python. The
floor of a command that ends early is an empty Python process. That of a run is the import of torch, Lightning
and timm, which import torch's compiler, torchvision, torchmetrics, SciPy, matplotlib and wandb themselves.
"""

import argparse
import functools
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.command_line import main
from bench.interleave import Timing, interleave, speedup
from bench.ledger import Claim, Entry, Report

EARLY, RUN = "a command that ends early", "a command up to its first step"
PYTHON, LIBRARIES = "empty Python process", "import torch, lightning, timm"
EAGER = "misspelt setting after these imports, as of eager imports"
STEP = "cim-pretrain with one step"
TINY = ("experiment=demo", "trainer=cpu", "trainer.max_steps=1", "trainer.max_epochs=-1", "resume=never")
TINY += ("trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "callbacks.knn=null")
TINY += ("callbacks.panels=null", "data.num_workers=0", "data.source.num_train=64", "data.source.num_val=16")
ENDING: dict[str, Sequence[str]] = {
    "import cim_lightning.cli": ("python", "-c", "import cim_lightning.cli.main"),
    "cim-pretrain --help": ("cim-pretrain", "--help"),
    "misspelt setting": ("cim-pretrain", "data.batchsize=3"),
    "refused value": ("cim-pretrain", "experiment=demo", "optim.base_lr=-1"),
    "missing folder": ("cim-pretrain", "experiment=demo", "data=folder", "data.root=missing"),
    "missing checkpoint": ("cim-evaluate", "checkpoint=missing"),
}
MISSPELT = """
import sys, torch, lightning, timm
from cim_lightning.cli.main import pretrain
sys.argv = ["cim-pretrain", "data.batchsize=3"]
pretrain()
"""
REFUSED = ("misspelt setting", "refused value", "missing folder", "missing checkpoint", EAGER)  # exit code 2
LIMITS = {"import cim_lightning.cli": 1000.0}  # milliseconds; 3000 for all others
SLOW_ROUNDS = 3  # of processes that take seconds


def start(command: Sequence[str], folder: str, code: int) -> None:
    """Run a command of this environment, and check its exit code: a refused run would be a fast one."""
    program = Path(sys.executable) if command[0] == "python" else Path(sys.executable).with_name(command[0])
    environment = os.environ | {"WANDB_MODE": "offline"}
    arguments = [str(program), *command[1:]]
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != code:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")


def time_of_children() -> float:
    """Return the processor time of all processes that this one has waited for, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def time_processes(commands: dict[str, Sequence[str]], rounds: int, folder: str) -> dict[str, Timing]:
    variants = {
        name: functools.partial(start, command, folder, 2 if name in REFUSED else 0)
        for name, command in commands.items()
    }
    return interleave(variants, rounds, warmup=0, cpu_clock=time_of_children)


def measure(args: argparse.Namespace) -> Report:
    ending = {PYTHON: ("python", "-c", ""), **ENDING}
    running = {
        LIBRARIES: ("python", "-c", "import torch, lightning, timm"),
        EAGER: ("python", "-c", MISSPELT),
        STEP: ("cim-pretrain", *TINY),
    }
    if args.smoke:
        ending, running = {name: ending[name] for name in (PYTHON, "cim-pretrain --help")}, {}
    with tempfile.TemporaryDirectory() as folder:
        early = time_processes(ending, args.rounds, folder)
        slow = time_processes(running, min(args.rounds, SLOW_ROUNDS), folder)
    floor = early[PYTHON].cpu.median
    entries = [Entry(EARLY, name, timing, unit="start", floor=floor) for name, timing in early.items()]
    libraries = slow[LIBRARIES].cpu.median if slow else None
    entries += [
        Entry(RUN, name, timing, unit="start", baseline=LIBRARIES, floor=libraries)
        for name, timing in slow.items()
    ]
    claims = [
        Claim(f"CPU time of: {name}", timing.cpu.median, "at most", LIMITS.get(name, 3000.0), "ms")
        for name, timing in early.items()
        if name != PYTHON
    ]
    if slow:
        share = speedup(slow[STEP], slow[LIBRARIES])
        claims.append(Claim("one step, against the imports of the libraries", share, "at most", 2.0, "x"))
    return Report(entries, claims)


if __name__ == "__main__":
    main("startup", measure, __doc__)
