"""Write docs/inputs.md, the table of users' inputs and outcomes, from the marks `user_input` of the tests.

`make docs` runs it; tests/inputs/test_inputs_page.py fails if the page is not current.
"""

from pathlib import Path

from marked_tests import Page

FILE = Path(__file__).with_name("inputs.md")
INTRO = """<!-- Written by docs/generate_inputs.py; run `make docs`. Do not edit. -->
# Inputs and their outcomes

Each row is one input that users have, what the commands do with it, and the test that shows it. An error is
one line that names the setting, its value, the rule and a way out. A link "report" leads to a public report
of the input.
"""
PAGE = Page(
    marker="user_input",
    parameters=("kind", "given", "outcome", "source"),
    kinds={
        "folder": "Folders",
        "file": "Image files",
        "source": "Lists, archives and other sources",
        "pixels": "Channels and bits",
        "weights": "Weights in",
        "export": "Weights out",
        "segmentation": "Segmentation data",
        "path": "Paths",
        "value": "Values",
    },
    intro=INTRO,
    columns=("input", "outcome", "test"),
)


if __name__ == "__main__":
    FILE.write_text(PAGE.text(PAGE.marks()))
