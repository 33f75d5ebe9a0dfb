"""docs/inputs.md is current and lists enough inputs."""

from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"

EXAMPLE = """
import pytest

CASES = [pytest.param(1, marks=pytest.mark.user_input("path", "a | b <c> `<d>`", "works"))]


@pytest.mark.user_input("value", "x=1", "one line", source="https://example.org/1")
def test_first(): ...


@pytest.mark.parametrize("case", CASES)
def test_second(case): ...
"""


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        import generate_inputs
    return generate_inputs


@pytest.fixture(scope="module")
def marks(generator: ModuleType) -> list:
    """Return the marks of all tests of this project."""
    return generator.user_inputs()


def test_the_page_is_current(generator, marks):
    assert (DOCS / "inputs.md").read_text() == generator.page(marks), "run `make docs`"


def test_marks_of_functions_and_of_lists_of_cases_are_found(generator, tmp_path):
    (tmp_path / "test_example.py").write_text(EXAMPLE)
    assert generator.user_inputs(tmp_path) == [
        ("path", "a | b <c> `<d>`", "works", "", "test_second", "test_example.py"),
        ("value", "x=1", "one line", "https://example.org/1", "test_first", "test_example.py"),
    ]


def test_the_page_has_one_row_per_mark(generator, tmp_path):
    (tmp_path / "test_example.py").write_text(EXAMPLE)
    page = generator.page(generator.user_inputs(tmp_path))
    rows = [line for line in page.splitlines() if "test_example.py" in line]
    link = "../tests/test_example.py"
    assert rows == [
        f"| a \\| b &lt;c> `<d>` | works | [test_second]({link}) |",
        f"| x=1 ([report](https://example.org/1)) | one line | [test_first]({link}) |",
    ]


@pytest.mark.parametrize(
    "arguments", ['"path", "a"', '"paths", "a", "b"', '"path", NAME, "b"', '"path", 1, "b"']
)
def test_a_mark_that_is_not_literal_is_refused(generator, tmp_path, arguments):
    (tmp_path / "test_example.py").write_text(f"@pytest.mark.user_input({arguments})\ndef test_it(): ...\n")
    with pytest.raises(ValueError, match=r"test_example.py:1: user_input\(kind, given, outcome, source\)"):
        generator.user_inputs(tmp_path)


def test_enough_inputs_of_each_kind_are_tested_and_some_are_from_public_reports(generator, marks):
    assert {mark.kind for mark in marks} == generator.KINDS.keys()
    assert len({(mark.kind, mark.given) for mark in marks}) >= 200
    assert len({mark.source for mark in marks} - {""}) >= 30
