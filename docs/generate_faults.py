"""Write docs/faults.md, the table of faults and what happens, from the marks `fault` of the tests.

`make docs` runs it; tests/inputs/test_inputs_page.py fails if the page is not current.
"""

from pathlib import Path

from marked_tests import Page

FILE = Path(__file__).with_name("faults.md")
INTRO = """<!-- Written by docs/generate_faults.py; run `make docs`. Do not edit. -->
# Faults and what happens

Each row is one fault of the machine, the data or the training, what the commands do then, and the test that
causes the fault. A run that stops says in one line what is saved; the same command resumes it.
"""
PAGE = Page(
    marker="fault",
    parameters=("kind", "when", "outcome"),
    kinds={
        "numbers": "Losses and gradients",
        "data": "Reading images",
        "process": "Processes and memory",
        "disk": "Disks and folders",
        "checkpoint": "Checkpoints and weights",
        "signal": "Signals",
        "command": "Commands",
    },
    intro=INTRO,
    columns=("fault", "what happens", "test"),
)


if __name__ == "__main__":
    FILE.write_text(PAGE.text(PAGE.marks()))
