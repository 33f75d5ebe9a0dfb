"""Compilation of the training step of every method."""

import json
import subprocess
import sys

import pytest

# Run in a subprocess without runtime shape checks, which break compiled graphs.
SCRIPT = """
import torch
from cim_lightning.cli.main import pretrain

shapes = []


def backend(graph, inputs):
    shapes.append([len(i) for i in inputs if i.ndim == 4 and not isinstance(i, torch.nn.Parameter)])
    return graph


compile = torch.nn.Module.compile
torch.nn.Module.compile = lambda self, **options: compile(self, backend=backend, **options)
pretrain()
print(shapes)
"""


GRAPHS = {  # per compiled graph of a step: the batch sizes of its image and map inputs
    "cim": [[32], [8], [8, 32]],
    "mae": [[8], []],
    "simmim": [[8], [8]],
    "dino": [[16], [], [16], [], [16], []],  # target, and online network with global and with local crops
}


SLOW = {"simmim", "dino", "mae"}  # compiling takes most of the time


@pytest.mark.parametrize("method", [pytest.param(m, marks=[pytest.mark.slow] * (m in SLOW)) for m in GRAPHS])
def test_each_network_of_the_training_step_is_compiled_once(method, method_overrides, tiny, tmp_path):
    """One graph per network and input size, without a graph break; validation is not compiled."""
    (tmp_path / "counted.py").write_text(SCRIPT)
    excluded = ("drop_path", "callbacks.panels=null", "cropping=", "decoder.")
    overrides = [a for a in tiny if not any(part in a for part in excluded)]
    limits = ["compile=true", "trainer.max_steps=2", "output_dir=run"]
    result = subprocess.run(
        [sys.executable, "counted.py", f"method={method}", *overrides, *method_overrides[method], *limits],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == GRAPHS[method]
