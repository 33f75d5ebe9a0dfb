"""docs/inputs.md and docs/faults.md are current and list enough inputs and faults."""

from pathlib import Path
from types import SimpleNamespace

import pytest

DOCS = Path(__file__).parents[2] / "docs"

EXAMPLE = """
import pytest

CASES = [pytest.param(1, marks=pytest.mark.user_input("path", "a | b <c> `<d>`", "works"))]


@pytest.mark.user_input("value", "x=1", "one line", source="https://example.org/1")
@pytest.mark.fault("disk", when="the disk is full", outcome="one line")
def test_first(): ...


@pytest.mark.parametrize("case", CASES)
def test_second(case): ...
"""


@pytest.fixture(scope="module")
def pages() -> SimpleNamespace:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        import generate_faults
        import generate_inputs
    return SimpleNamespace(inputs=generate_inputs.PAGE, faults=generate_faults.PAGE)


@pytest.mark.parametrize("name", ["inputs", "faults"])
def test_the_page_is_current(pages, name):
    page = getattr(pages, name)
    assert (DOCS / f"{name}.md").read_text() == page.text(page.marks()), "run `make docs`"


def test_marks_of_functions_and_of_lists_of_cases_are_found(pages, tmp_path):
    (tmp_path / "test_example.py").write_text(EXAMPLE)
    assert pages.inputs.marks(tmp_path) == [
        ("path", "a | b <c> `<d>`", "works", "", "test_second", "test_example.py"),
        ("value", "x=1", "one line", "https://example.org/1", "test_first", "test_example.py"),
    ]
    assert pages.faults.marks(tmp_path) == [
        ("disk", "the disk is full", "one line", "", "test_first", "test_example.py")
    ]


def test_the_page_has_one_row_per_mark(pages, tmp_path):
    (tmp_path / "test_example.py").write_text(EXAMPLE)
    page = pages.inputs.text(pages.inputs.marks(tmp_path))
    rows = [line for line in page.splitlines() if "test_example.py" in line]
    link = "../tests/test_example.py"
    assert rows == [
        f"| a \\| b &lt;c> `<d>` | works | [test_second]({link}) |",
        f"| x=1 ([report](https://example.org/1)) | one line | [test_first]({link}) |",
    ]


@pytest.mark.parametrize(
    "arguments", ['"path", "a"', '"paths", "a", "b"', '"path", NAME, "b"', '"path", 1, "b"']
)
def test_a_mark_that_is_not_literal_is_refused(pages, tmp_path, arguments):
    text = f"@pytest.mark.user_input({arguments})\ndef test_it(): ...\n"
    (tmp_path / "test_example.py").write_text(text)
    with pytest.raises(ValueError, match=r"test_example.py:1: user_input\(kind, given, outcome, source\)"):
        pages.inputs.marks(tmp_path)


def test_enough_inputs_of_each_kind_are_tested_and_some_are_from_public_reports(pages):
    marks = pages.inputs.marks()
    assert {mark.kind for mark in marks} == pages.inputs.kinds.keys()
    assert len({(mark.kind, mark.given) for mark in marks}) >= 200
    assert len({mark.source for mark in marks} - {""}) >= 30


def test_faults_of_each_kind_are_tested(pages):
    assert {mark.kind for mark in pages.faults.marks()} == pages.faults.kinds.keys()
