"""Every notebook runs from top to bottom and shows pictures. This is the only place that executes them."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
IMPORTED = "import sys; sorted({'lightning', 'hydra'} & {name.partition('.')[0] for name in sys.modules})"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_pictures_without_lightning_and_hydra(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear the outputs before a commit"
    notebook.cells.append(nbformat.v4.new_code_cell(IMPORTED))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    data = [
        output.get("data", {})
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    assert sum("image/png" in formats for formats in data) >= 2
    assert data[-1]["text/plain"] == "[]"


def test_there_is_a_notebook():
    assert NOTEBOOKS
