"""Marks of the tests as tables of a page: one row per mark, with a link to its test.

The test modules are parsed, not imported: the arguments of a mark must be literals.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parents[1] / "tests"


class Mark(NamedTuple):
    """One mark of a test."""

    kind: str  # title of a table, by its key in `Page.kinds`
    given: str
    outcome: str
    source: str  # URL of a public report; "": none
    test: str  # name of the test function
    file: str  # of the test, relative to the folder of the tests


@dataclass(frozen=True)
class Page:
    """A page with the marks of one name.

    Args:
        marker: name of the mark.
        parameters: of the mark: kind, the two columns, and `source`, if the mark may have a report.
        kinds: titles of the tables, by the first argument of the mark.
        intro: the text above the tables.
        columns: titles of the columns.
    """

    marker: str
    parameters: tuple[str, ...]
    kinds: Mapping[str, str]
    intro: str
    columns: tuple[str, str, str]

    def marks(self, tests: Path = TESTS) -> list[Mark]:
        """Return the marks of all test modules below a folder, in the order of `kinds`.

        Raises:
            ValueError: an argument of a mark is no literal string, or its kind is unknown.
        """
        found = [mark for file in sorted(tests.rglob("test_*.py")) for mark in self._marks_of(file, tests)]
        return sorted(found, key=lambda mark: list(self.kinds).index(mark.kind))

    def text(self, marks: list[Mark]) -> str:
        """Return the whole page."""
        parts, head = [self.intro.strip()], [f"| {' | '.join(self.columns)} |", "| --- | --- | --- |"]
        for kind, title in self.kinds.items():
            if rows := [_row(mark) for mark in marks if mark.kind == kind]:
                parts += [f"## {title}", "\n".join([*head, *rows])]
        return "\n\n".join(parts) + "\n"

    def _marks_of(self, file: Path, tests: Path) -> Iterator[Mark]:
        source = file.read_text()
        tree = ast.parse(source if f"mark.{self.marker}" in source else "")
        for statement in tree.body:
            name = getattr(statement, "name", "") or _first_user(statement, tree)
            for node in ast.walk(statement):
                if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == self.marker:
                    yield Mark(*self._arguments(node, file), name, str(file.relative_to(tests)))

    def _arguments(self, call: ast.Call, file: Path) -> tuple[str, str, str, str]:
        values = dict(zip(self.parameters, call.args, strict=False))
        values |= {keyword.arg or "": keyword.value for keyword in call.keywords}
        try:
            given = {name: ast.literal_eval(value) for name, value in values.items()}
        except ValueError:
            given = {}
        complete = given.keys() >= set(self.parameters[:3]) and given.keys() <= set(self.parameters)
        if (
            not complete
            or given["kind"] not in self.kinds
            or not all(isinstance(value, str) for value in given.values())
        ):
            signature = f"{self.marker}({', '.join(self.parameters)})"
            raise ValueError(f"{file}:{call.lineno}: {signature} takes literal strings")
        kind, first, second = (given[name] for name in self.parameters[:3])
        return kind, first, second, given.get("source", "")


def _first_user(statement: ast.stmt, tree: ast.Module) -> str:
    """Return the first function that uses a variable, such as a list of cases."""
    targets = {node.id for node in getattr(statement, "targets", ()) if isinstance(node, ast.Name)}
    functions = [function for function in tree.body if isinstance(function, ast.FunctionDef)]
    return next((f.name for f in functions if targets & _names(f)), "")


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _row(mark: Mark) -> str:
    report = f" ([report]({mark.source}))" if mark.source else ""
    test = f"[{mark.test}](../tests/{mark.file})"
    return f"| {_escape(mark.given)}{report} | {_escape(mark.outcome)} | {test} |"


def _escape(text: str) -> str:
    """Return text for a table cell: `|` would end it, and `<` would start an HTML tag outside of code."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(part if i % 2 else part.replace("<", "&lt;") for i, part in enumerate(parts))
