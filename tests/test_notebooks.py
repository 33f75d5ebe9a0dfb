"""Every notebook runs from top to bottom and shows pictures. This is the only place that executes them."""

import ast
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
IMPORTED = "import sys; sorted({name.partition('.')[0] for name in sys.modules})"
NOT_NEEDED = {
    "crop_and_correlate": {"lightning", "hydra"},
    "own_loader_and_network": {"hydra", "omegaconf"},
    "pretrain_and_evaluate": set(),
}
PICTURES = {"crop_and_correlate": 2, "own_loader_and_network": 1, "pretrain_and_evaluate": 1}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_imports_only_what_it_says(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear the outputs before a commit"
    notebook.cells.append(nbformat.v4.new_code_cell(IMPORTED))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    data = [output.get("data", {}) for output in outputs]
    assert sum("image/png" in formats for formats in data) >= PICTURES[path.stem]
    assert not NOT_NEEDED[path.stem] & set(ast.literal_eval(data[-1]["text/plain"]))


def test_every_notebook_is_listed():
    assert {path.stem for path in NOTEBOOKS} == PICTURES.keys() == NOT_NEEDED.keys()
