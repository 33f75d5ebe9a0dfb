"""All parts of an evaluation, one after another; what is done is kept, and skipped by a rerun."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cim_lightning.atomic import atomic_write
from cim_lightning.evaluation.context import EvalContext, Evaluator
from cim_lightning.rng import fork_rng

log = logging.getLogger(__name__)


def evaluate(
    parts: Mapping[str, Evaluator], context: EvalContext, asked: Mapping[str, Any], about: Mapping[str, Any]
) -> dict[str, float]:
    """Runs every part and writes `metrics.json` and `table.md` into the context's folder after each.

    Args:
        parts: by name.
        asked: what each part's numbers depend on, by name, as plain values. A part whose numbers lie in
            `parts/<name>.json` for the very same is not run again.
        about: what the numbers are about, such as the checkpoint; goes into `metrics.json` too.

    Returns the numbers, as "part/name".
    """
    done: dict[str, float] = {}
    for name, part in parts.items():
        kept = context.folder / "parts" / f"{name}.json"
        numbers = _kept(kept, asked[name])
        if numbers is None:
            log.info("%s ...", name)
            with fork_rng(context.seed):  # whatever part came before
                numbers = part(context)
            kept.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(kept, json.dumps({"asked": asked[name], "numbers": numbers}, indent=2) + "\n")
        else:
            log.info("%s: done before", name)
        done |= {f"{name}/{key}": value for key, value in numbers.items()}
        atomic_write(context.folder / "metrics.json", json.dumps({**about, **done}, indent=2) + "\n")
        atomic_write(context.folder / "table.md", table(done) + "\n")
    return done


def table(numbers: Mapping[str, float]) -> str:
    """Markdown, a row a number."""
    lines = ["| part | measure | value |", "|---|---|---|"]
    for key, value in numbers.items():
        part, _, measure = key.partition("/")
        lines.append(f"| {part} | {measure.replace('_', ' ')} | {value:.4g} |")
    return "\n".join(lines)


def _kept(path: Path, asked: Any) -> dict[str, float] | None:
    if not path.exists():
        return None
    before = json.loads(path.read_text())
    return before["numbers"] if before["asked"] == json.loads(json.dumps(asked)) else None
