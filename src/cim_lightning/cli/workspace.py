"""Behind `cim-workspace`: panels of Weights & Biases for a project of runs, made by one command."""

import argparse
import json
from collections.abc import Sequence

from cim_lightning.config.run_names import project
from cim_lightning.errors import ConfigError
from cim_lightning.report import wandb_workspace


def run(arguments: Sequence[str] | None = None) -> None:
    """Saves the wandb_workspace, or the report, and tells where; or prints what it would send."""
    asked = _parser().parse_args(arguments)
    build = wandb_workspace.report if asked.report else wandb_workspace.workspace
    if asked.spec:
        made = build(asked.entity or "", asked.project, asked.sweep, asked.tag)
        print(json.dumps(wandb_workspace.spec(made), indent=2))
        return

    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise ConfigError("wandb: nobody is logged in; try wandb login, or --spec, which needs no login")
    try:
        entity = asked.entity or wandb.Api().default_entity or ""
        made = build(entity, asked.project, asked.sweep, asked.tag)
        made.save()
    except (wandb.Error, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"wandb: {reason}; try --spec, which sends nothing") from error
    print(made.url)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("cim-workspace", description=__doc__)
    parser.add_argument("--project", default=project(), help="whose runs it shows; %(default)s")
    parser.add_argument("--entity", help="a user or team; your own if not given")
    parser.add_argument("--sweep", metavar="NAME", help="of this sweep alone, by the name of its folder")
    parser.add_argument("--tag", help="of runs with this tag alone, as ablation/rotation")
    parser.add_argument("--report", action="store_true", help="a report to write in, with the same panels")
    parser.add_argument("--spec", action="store_true", help="print what would be sent; needs no network")
    return parser
