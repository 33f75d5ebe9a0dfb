"""300 wrong overrides over all groups and commands: is the answer one line, does it help, what does it cost?

Usage: python experiments/wrong_overrides/run.py results.json [--number 300] [--processes 24]
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cim_lightning.config import messages, validate
from cim_lightning.config.arguments import quote_values
from cim_lightning.config.choices import choices_of
from cim_lightning.config.compose import CONF, default_config, register_resolvers
from cim_lightning.config.setting_paths import HYDRA_KEYS, setting_paths
from cim_lightning.config.synonyms import settings_for

COMMANDS = {  # what every command line needs
    "pretrain": ["paths.run=run"],
    "evaluate": ["paths.run=run", "checkpoint=untrained", "backbone=vit_tiny_patch16", "data=synthetic"],
    "export": ["checkpoint=x", "output_dir=x"],
    "prepare": ["data.root=x"],
}
REFUSED_IN_A_GROUP = {"experiment", "compare", "debug", "hydra", "paths", "task"}


def misspell(word: str, rng: random.Random) -> str:
    """Return a word with a letter dropped, doubled, replaced, or swapped with the next one."""
    while True:
        i = rng.randrange(len(word))
        kind = rng.randrange(4)
        changed = {
            0: word[:i] + word[i + 1 :],
            1: word[:i] + word[i] + word[i:],
            2: word[:i] + rng.choice("aeioustr") + word[i + 1 :],
            3: word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :],
        }[kind]
        if changed != word and changed.strip("_") == changed and len(changed) > 2:
            return changed


def cases(command: str, rng: random.Random) -> Iterator[tuple[str, str, str]]:
    """Yield endless (kind, override, expected part of the line; "" where none is expected)."""
    cfg = default_config(command)
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    found = [path for path, defined in setting_paths(cfg) if path == defined]
    leaves = []
    for path in found:
        node: Any = plain
        for name in path.split("."):
            node = node[name]
        if path.rpartition(".")[2] not in HYDRA_KEYS and not isinstance(node, dict):
            leaves.append((path, node))
    numbers = [path for path, value in leaves if type(value) in (int, float)]
    groups = [name for name in plain if (CONF / name).is_dir() and name not in REFUSED_IN_A_GROUP]
    names = [name for name in settings_for(command) if name not in plain]
    while True:
        path, value = rng.choice(leaves)
        parent, _, leaf = path.rpartition(".")
        shown = "1" if value is None or "${" in str(value) or value == "???" else str(value).replace(" ", "")
        if len(leaf) > 3:
            yield "misspelt setting", f"{parent}.{misspell(leaf, rng)}={shown}".lstrip("."), f"{path}="
        if "." in path and len(path.partition(".")[0]) > 3:
            top, _, rest = path.partition(".")
            yield "misspelt group", f"{misspell(top, rng)}.{rest}={shown}", f"{path}="
        group = rng.choice(groups)
        choice = rng.choice(choices_of(group))
        if len(choice) > 3 and (wrong := misspell(choice, rng)) not in choices_of(group):
            yield "misspelt choice", f"{group}={wrong}", f"{group}={choice}"
        number = rng.choice(numbers)
        yield "word for a number", f"{number}=many", ""
        yield "list for a number", f"{number}=[1,x]", ""
        yield "out of range", f"{number}={rng.choice(['-7', '-0.5', '.inf', '1e12'])}", ""
        yield "empty value", f"{path}=", ""
        yield "unknown setting", f"+{path.partition('.')[0]}.{rng.choice(['foo', 'my_flag', 'zz'])}=1", ""
        if (other := f"{rng.choice(groups)}.{leaf}") not in found:
            yield "setting of another group", f"{other}={shown}", ""
        yield "another name", f"{rng.choice(names)}={shown}", ""
        yield "argparse", f"--{rng.choice(names).replace('_', '-')}={shown}", ""


def line(command: str, override: str) -> str | None:
    """Return the line about a wrong override; None if the configuration alone accepts it."""
    arguments, cfg = [*COMMANDS[command], override], None
    try:
        arguments = quote_values(arguments, command)
        cfg = compose(command, arguments)
        validate.check(cfg, command, arguments, incomplete=["data"] if command == "evaluate" else [])
    except Exception as error:
        return messages.explain(error, command, cfg, arguments) or f"TRACEBACK {error!r}"
    return None


def cpu_seconds(command: str, override: str, folder: str) -> float:
    """Return the CPU seconds of a process that refuses an override."""
    script = Path(sys.executable).with_name(f"cim-{command}")
    first = ["stats"] if command == "prepare" else []
    given = [argument for argument in COMMANDS[command] if not argument.startswith("paths")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [script, *first, *given, override], cwd=folder, capture_output=True, timeout=120, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results")
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--processes", type=int, default=24)
    options = parser.parse_args()
    rng = random.Random(0)
    register_resolvers()
    generators = {command: cases(command, rng) for command in COMMANDS}
    order = ["pretrain", "evaluate", "pretrain", "export", "pretrain", "prepare"]
    rows: list[dict[str, Any]] = []
    seen: set[tuple[str, str]] = set()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        while len(rows) < options.number:
            command = order[len(rows) % len(order)]
            kind, override, expected = next(generators[command])
            if (command, override) in seen:
                continue
            seen.add((command, override))
            answer = line(command, override)
            name = override.lstrip("+-").partition("=")[0]
            row = {"command": command, "kind": kind, "override": override, "line": answer}
            row["one_line"] = answer is not None and "\n" not in answer and "TRACEBACK" not in answer
            shown = (name, name.replace("-", "_"), name.replace(".", "={", 1))  # +push.foo=1 is push={foo: 1}
            row["names_it"] = bool(answer) and any(text in answer for text in shown)
            if expected:
                row["right"] = (
                    bool(answer)
                    and expected.partition("=")[0] in answer.partition(";")[2]
                    and (kind != "misspelt choice" or expected in answer)
                )
            rows.append(row)
    refused = [row for row in rows if row["line"] is not None]
    misspelt = [row for row in rows if "right" in row]
    with tempfile.TemporaryDirectory() as folder:
        sample = rng.sample(refused, min(options.processes, len(refused)))
        seconds = sorted(cpu_seconds(row["command"], row["override"], folder) for row in sample)
    summary = {
        "number": len(rows),
        "kinds": Counter(row["kind"] for row in rows),
        "refused_by_the_configuration": len(refused),
        "of_these_one_line_that_names_the_setting": sum(r["one_line"] and r["names_it"] for r in refused)
        / len(refused),
        "misspelt": len(misspelt),
        "right_suggestions": sum(row["right"] for row in misspelt) / max(len(misspelt), 1),
        "accepted": [f"cim-{r['command']} {r['override']}" for r in rows if r["line"] is None],
        "cpu_seconds": {
            "median": statistics.median(seconds),
            "largest": seconds[-1],
            "processes": len(seconds),
        },
    }
    Path(options.results).write_text(
        json.dumps({"summary": summary, "rows": rows}, indent=1, ensure_ascii=False) + "\n"
    )
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    os.environ.setdefault("WANDB_MODE", "offline")
    main()
