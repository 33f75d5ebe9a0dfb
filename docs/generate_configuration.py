"""Write docs/configuration.md from the files of conf/ and the signatures of the classes that they configure.

`make docs` runs it; tests/test_configuration_docs.py fails if the page is not current.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from config_files import Choice, Row, choice, plain, read, rows, summary

CONF = Path(__file__).parents[1] / "conf"
PAGE = Path(__file__).with_name("configuration.md")
COMMANDS = ("pretrain", "evaluate", "export", "prepare")
RECIPES = ("experiment", "compare", "debug")  # groups whose files change settings of other groups
MAX_COLUMNS = 4  # choices of one class that get a column each; more are described by their differences
INTRO = """<!-- Written by docs/generate_configuration.py; run `make docs`. Do not edit. -->
# Configuration

Every setting is an override on the command line: `group=choice` selects a file of `conf/`, and `path=value`
changes one setting. `cim-pretrain --cfg job` prints the result. Values are checked against the signatures of
the classes below before anything is built.

* `???` marks a setting without a default. `null` is YAML's None.
* `${...}` is a reference to another setting; `${cim....}` is a value that depends on the machine or the run.
* A class in the default column is configured by the rows below it. `null` switches most of them off, as in
  `cropping.appearance=null`.
* Settings of `classifier` are below the evaluation that uses it: `evaluation.finetune.classifier.epochs`.
"""


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(map(_escape, line))} |" for line in lines)


def _escape(cell: str) -> str:
    cell = cell.replace("|", "\\|")
    return cell if "`" in cell else cell.replace("<", "&lt;")


def commands() -> Iterator[str]:
    """Yield the section of the commands: the settings outside of all groups, and the default choices."""
    yield "## Commands"
    for command in COMMANDS:
        about, content, comments = read(CONF / f"{command}.yaml")
        groups = [entry for entry in content["defaults"] if isinstance(entry, dict)]
        body = [
            (f"[{group}](#{group})", f"`{plain(default)}`", comments.get(f"defaults.{group}", ""))
            for entry in groups
            for group, default in entry.items()
            if not group.startswith("override ")
        ]
        own = {key: value for key, value in content.items() if key not in ("defaults", "hydra")}
        settings = [(f"`{path}`", row.default, row.comment) for path, row in rows(own, comments)]
        text = about.partition(": ")[2]
        yield f"### cim-{command}\n\n{text[0].upper()}{text[1:]}"
        yield table(("group", "default choice", "meaning"), body)
        yield table(("setting", "default", "meaning"), settings)


def section(group: str, default: str) -> Iterator[str]:
    """Yield the section of one group: its choices, and a table for each class among them.

    Args:
        group: folder of conf/.
        default: its choice by default, which comes first.
    """
    files = sorted((CONF / group).glob("[!_]*.yaml"), key=lambda file: (file.stem != default, file.stem))
    choices = [choice(file, group) for file in files]
    classes: dict[str, list[Choice]] = {}
    for one in choices:
        classes.setdefault(one.settings.get("_target_", one.name), []).append(one)
    yield f"## {group}"
    yield table(("choice", "description"), [(f"`{group}={one.name}`", one.about) for one in choices])
    for target, members in classes.items():
        yield from class_tables(group, target, members)


def class_tables(group: str, target: str, members: list[Choice]) -> Iterator[str]:
    """Yield the settings of the choices of one class, and what each choice sets in other groups."""
    found = {member.name: dict(rows(member.settings, member.comments)) for member in members}
    prefix = group.replace("/", ".")
    paths = list(dict.fromkeys(path for each in found.values() for path in each))
    body, defaults = [], {}
    are_columns = len(members) <= MAX_COLUMNS
    for path in paths:
        having = {name: each[path] for name, each in found.items() if path in each}
        kind, defaults[path], _ = first = next(iter(having.values()))
        comment = next((row.comment for row in having.values() if row.comment), "")
        cells = [having[name].default if name in having else "" for name in found]
        if not are_columns:
            cells = [first.default]
            if len(having) < len(found):
                comment = f"{comment} ({_names(list(having), list(found))})".strip()
        body.append((f"`{prefix}.{path}`", kind, *cells, comment))
    if body:
        title = target if "." in target else f"{group}={target}"
        yield f"**`{title}`** {summary(target)}".rstrip()
        head = [f"`{name}`" for name in found] if are_columns and len(found) > 1 else ["default"]
        yield table(("setting", "type", *head, "meaning"), body)
    if not are_columns:
        yield "Differences from this table:"
        yield table(("choice", "settings"), list(_differences(found, defaults, prefix)))
    for member in members:
        if member.others:
            yield f"`{group}={member.name}` also sets:"
            yield table(
                ("setting", "value", "meaning"),
                [
                    (f"`{path}`", f"`{v}`", text or "another choice of the group")
                    for path, v, text in member.others
                ],
            )


def _names(having: list[str], every: list[str]) -> str:
    """Return "only a, b" or "not c, d", whichever is shorter."""
    lacking = [name for name in every if name not in having]
    word, names = ("only", having) if len(having) <= len(lacking) else ("not", lacking)
    return f"{word} {', '.join(f'`{name}`' for name in names)}"


def _differences(
    found: dict[str, dict[str, Row]], defaults: dict[str, str], prefix: str
) -> Iterator[Sequence[str]]:
    for name, each in found.items():
        changed = [
            (path, row.default.strip("`")) for path, row in each.items() if row.default != defaults[path]
        ]
        yield f"`{name}`", ", ".join(f"`{prefix}.{path}={value}`" for path, value in changed) or "none"


def recipes(group: str) -> Iterator[str]:
    """Yield the section of a group whose files set many groups at once: what each file does."""
    body = []
    for file in sorted((CONF / group).rglob("[!_]*.yaml")):
        header = re.findall(r"^#(?! @)(.*)", file.read_text().partition("\ndefaults:")[0], re.MULTILINE)
        first, *parts = re.split(r"^ ([A-Z]\w+) {2,}", "\n".join(header), flags=re.MULTILINE)
        named = {label: " ".join(text.split()) for label, text in zip(parts[::2], parts[1::2], strict=True)}
        name = file.relative_to(CONF / group).with_suffix("")
        body.append(
            (f"`{group}={name}`", named.get("What", " ".join(first.split())), named.get("Expected", ""))
        )
    columns = 3 if any(expected for _, _, expected in body) else 2
    yield f"## {group}"
    yield table(("choice", "what", "expected")[:columns], [line[:columns] for line in body])


def page() -> str:
    """Return the whole page."""
    defaults: dict[str, str] = {}
    for entry in (entry for command in COMMANDS for entry in read(CONF / f"{command}.yaml")[1]["defaults"]):
        for group, choice_name in entry.items() if isinstance(entry, dict) else ():
            defaults.setdefault(group, choice_name)
    folders = {str(file.parent.relative_to(CONF)) for file in CONF.rglob("[!_]*.yaml")}
    folders -= {".", "hydra/job_logging"}
    tops = [*defaults, *sorted(folder.partition("/")[0] for folder in folders)]
    groups = [folder for folder in folders if folder.partition("/")[0] not in RECIPES]
    groups.sort(key=lambda folder: (tops.index(folder.partition("/")[0]), folder))
    parts = [INTRO.strip(), *commands()]
    parts += [part for group in groups for part in section(group, defaults.get(group, ""))]
    parts += [part for group in RECIPES for part in recipes(group)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
