"""What the loop does around every method's loss."""

import subprocess
import sys

# In a process of its own, without the checks of shapes, which break compiled graphs apart.
COUNTED = """
import torch
from cim_lightning.cli import pretrain

shapes = []


def backend(graph, inputs):
    shapes.append([len(i) for i in inputs if i.ndim == 4 and not isinstance(i, torch.nn.Parameter)])
    return graph


compile = torch.nn.Module.compile
torch.nn.Module.compile = lambda self, **options: compile(self, backend=backend, **options)
pretrain()
print(shapes)
"""


def test_what_is_compiled_is_the_training_step_alone_once(tiny, tmp_path):
    (tmp_path / "counted.py").write_text(COUNTED)
    plain = [a for a in tiny if "drop_path" not in a and a != "callbacks.panels=null"]
    done = subprocess.run(
        [sys.executable, "counted.py", *plain, "compile=true", "trainer.max_steps=2", "output_dir=run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    graphs = done.stdout.splitlines()[-1]
    assert graphs == "[[32], [8], [8, 32]]"  # exemplars, contexts, and the decoder of both
