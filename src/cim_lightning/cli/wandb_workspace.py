"""Create a workspace or a report of Weights & Biases for the runs of a project."""

import argparse
import importlib
import json
import os
import pkgutil
from collections.abc import Sequence

from cim_lightning import methods
from cim_lightning.errors import ConfigError
from cim_lightning.report import wandb_workspace


def run(arguments: Sequence[str]) -> None:
    """Save the workspace or the report and print its URL; with --spec, print it only."""
    args = _parser().parse_args(arguments)
    for module in pkgutil.iter_modules(methods.__path__, f"{methods.__name__}."):
        importlib.import_module(module.name)  # every method registers its metrics
    build = wandb_workspace.report if args.report else wandb_workspace.workspace
    if args.spec:
        view = build(args.entity or "", args.project, args.sweep, args.tag)
        print(json.dumps(wandb_workspace.spec(view), indent=2))
        return

    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise ConfigError("wandb: not logged in; try wandb login, or --spec, which needs no login")
    try:
        entity = args.entity or wandb.Api().default_entity or ""
        view = build(entity, args.project, args.sweep, args.tag)
        view.save()
    except (wandb.Error, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"wandb: {reason}; try --spec, which sends nothing") from error
    print(view.url)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("cim-workspace", description=__doc__)
    project = os.environ.get("WANDB_PROJECT", "cim-lightning")  # as in conf/logger/wandb.yaml
    parser.add_argument("--project", default=project, help="project of the runs; default: %(default)s")
    parser.add_argument("--entity", help="user or team; default: your own")
    parser.add_argument("--sweep", metavar="NAME", help="only runs of this sweep, by the name of its folder")
    parser.add_argument("--tag", help="only runs with this tag, such as ablation/rotation")
    parser.add_argument("--report", action="store_true", help="create a report, to which you can add text")
    parser.add_argument("--spec", action="store_true", help="print it as JSON instead; needs no network")
    return parser
