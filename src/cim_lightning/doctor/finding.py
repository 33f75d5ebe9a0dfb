"""Findings of `cim-doctor`, and the table that shows them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Finding(NamedTuple):
    """One row: what was found, and why the training should not start with it, if so."""

    name: str
    value: str
    problem: str = ""


Sections = Mapping[str, Sequence[Finding]]  # by title


def table(sections: Sections) -> str:
    """Return the findings as text, one block per section. Problems are marked with "!"."""
    width = max((len(finding.name) for finding in _all(sections)), default=0)
    blocks = []
    for title, findings in sections.items():
        rows = [title]
        for name, value, problem in findings:
            rows.append(f"{'!' if problem else ' '} {name:{width}}  {value}".rstrip())
            rows += [f"  {'':{width}}  {problem}"] if problem else []
        blocks.append("\n".join(rows))
    return "\n\n".join(blocks)


def problems(sections: Sections) -> list[str]:
    """Return every problem with the name of its finding."""
    return [f"{finding.name}: {finding.problem}" for finding in _all(sections) if finding.problem]


def count(number: float, noun: str = "") -> str:
    """Return a number with at most three digits and a letter for its size, such as "5.53 M parameters"."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(number) >= size:
            return f"{number / (1e3 if letter == ' k' else size):.3g}{letter} {noun}".rstrip()
    digits = f"{number:,.0f}" if number == int(number) or number >= 100 else f"{number:.3g}"
    return f"{digits} {noun}".rstrip()


def _all(sections: Sections) -> Iterable[Finding]:
    return (finding for findings in sections.values() for finding in findings)
