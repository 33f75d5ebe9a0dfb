"""What the loop does around every method's loss."""

import json
import subprocess
import sys

import pytest

# In a process of its own, without the checks of shapes, which break compiled graphs apart.
COUNTED = """
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


GRAPHS = {  # of a step: the lengths of the images and maps that each reads
    "cim": [[32], [8], [8, 32]],
    "mae": [[8], []],
    "simmim": [[8], [8]],
    "dino": [[16], [], [16], [], [16], []],  # the target's, and the online network's of either size
}


@pytest.mark.parametrize("method", GRAPHS)
def test_what_is_compiled_is_the_training_step_alone_once(method, own, tiny, tmp_path):
    """One graph a part and size, without a break; validation is not compiled."""
    (tmp_path / "counted.py").write_text(COUNTED)
    of_others = ("drop_path", "callbacks.panels=null", "cropping=", "decoder.")
    plain = [a for a in tiny if not any(one in a for one in of_others)]
    limits = ["compile=true", "trainer.max_steps=2", "output_dir=run"]
    done = subprocess.run(
        [sys.executable, "counted.py", f"method={method}", *plain, *own[method], *limits],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == GRAPHS[method]
