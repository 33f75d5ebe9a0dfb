"""Write docs/inputs.md, the table of users' inputs and outcomes, from the marks `user_input` of the tests.

`make docs` runs it; tests/inputs/test_inputs_page.py fails if the page is not current. The test modules are
parsed, not imported: the arguments of a mark must be literals.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parents[1] / "tests"
PAGE = Path(__file__).with_name("inputs.md")
KINDS = {
    "folder": "Folders",
    "file": "Image files",
    "source": "Lists, archives and other sources",
    "pixels": "Channels and bits",
    "weights": "Weights in",
    "export": "Weights out",
    "segmentation": "Segmentation data",
    "path": "Paths",
    "value": "Values",
}
PARAMETERS = ("kind", "given", "outcome", "source")
INTRO = """<!-- Written by docs/generate_inputs.py; run `make docs`. Do not edit. -->
# Inputs and their outcomes

Each row is one input that users have, what the commands do with it, and the test that shows it. An error is
one line that names the setting, its value, the rule and a way out. A link "report" leads to a public report
of the input.
"""


class UserInput(NamedTuple):
    """One mark `user_input` of a test."""

    kind: str  # a key of KINDS
    given: str
    outcome: str
    source: str  # URL of a public report; "": none
    test: str  # name of the test function
    file: str  # of the test, relative to TESTS


def user_inputs(tests: Path = TESTS) -> list[UserInput]:
    """Return the marks of all test modules below a folder, in the order of KINDS.

    Raises:
        ValueError: an argument of a mark is no literal string, or its kind is unknown.
    """
    found = [mark for file in sorted(tests.rglob("test_*.py")) for mark in _marks(file, tests)]
    return sorted(found, key=lambda mark: list(KINDS).index(mark.kind))


def _marks(file: Path, tests: Path) -> Iterator[UserInput]:
    source = file.read_text()
    tree = ast.parse(source if "user_input" in source else "")
    for statement in tree.body:
        name = getattr(statement, "name", "") or _first_user(statement, tree)
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "user_input":
                yield UserInput(*_arguments(node, file), name, str(file.relative_to(tests)))


def _first_user(statement: ast.stmt, tree: ast.Module) -> str:
    """Return the first function that uses a variable, such as a list of cases."""
    targets = {node.id for node in getattr(statement, "targets", ()) if isinstance(node, ast.Name)}
    functions = [function for function in tree.body if isinstance(function, ast.FunctionDef)]
    return next((f.name for f in functions if targets & _names(f)), "")


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _arguments(call: ast.Call, file: Path) -> tuple[str, str, str, str]:
    values = dict(zip(PARAMETERS, call.args, strict=False))
    values |= {keyword.arg or "": keyword.value for keyword in call.keywords}
    try:
        given = {name: ast.literal_eval(value) for name, value in values.items()}
    except ValueError:
        given = {}
    is_complete = given.keys() >= set(PARAMETERS[:3]) and given.keys() <= set(PARAMETERS)
    if not is_complete or given["kind"] not in KINDS or not all(isinstance(v, str) for v in given.values()):
        raise ValueError(
            f"{file}:{call.lineno}: user_input(kind, given, outcome, source) takes literal strings"
        )
    return given["kind"], given["given"], given["outcome"], given.get("source", "")


def page(marks: list[UserInput]) -> str:
    """Return the whole page."""
    parts = [INTRO.strip()]
    for kind, title in KINDS.items():
        if rows := [_row(mark) for mark in marks if mark.kind == kind]:
            parts += [f"## {title}", "\n".join(["| input | outcome | test |", "| --- | --- | --- |", *rows])]
    return "\n\n".join(parts) + "\n"


def _row(mark: UserInput) -> str:
    report = f" ([report]({mark.source}))" if mark.source else ""
    test = f"[{mark.test}](../tests/{mark.file})"
    return f"| {_escape(mark.given)}{report} | {_escape(mark.outcome)} | {test} |"


def _escape(text: str) -> str:
    """Return text for a table cell: `|` would end it, and `<` would start an HTML tag outside of code."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(part if i % 2 else part.replace("<", "&lt;") for i, part in enumerate(parts))


if __name__ == "__main__":
    PAGE.write_text(page(user_inputs()))
