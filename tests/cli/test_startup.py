"""What a command imports before its work begins: importing torch, timm and Lightning takes 5 s of CPU."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "timm", "lightning", "torchmetrics", "kornia", "wandb", "sympy", "scipy")
HEAVY += ("matplotlib", "plotly", "numpy", "PIL")
HELP = ("pretrain", "evaluate", "export", "prepare", "report", "workspace", "doctor")

# Command lines, and a part of the line about the mistake.
MISTAKES = {
    "pretrain experimnt=demo": "try experiment=demo",
    "pretrain trainer=cpu data.batchsize=3": "did you mean data.batch_size=3?",
    "pretrain backbone=vit_tiny": "no such backbone",
    "pretrain experiment=demo trainer.max_epochs=ten": "must be int",
    "pretrain experiment=demo logger=wandb optim.base_lr=-1": "must be above 0",
    "pretrain experiment=demo decoder=pixels": "which it does not take; choose from",
    "pretrain experiment=demo data=folder data.root=lost": "does not exist; the path exists up to",
    "pretrain experiment=demo data=video data.root=lost": "does not exist",
    "pretrain experiment=demo data=folder data.root=photo.png/x": "does not exist",
    "pretrain experiment=demo resume=lost.ckpt": "no such checkpoint",
    "pretrain experiment=demo compile=maybe": "must be bool",
    "pretrain experiment=demo compile_mode=max-autotun": "must be one of default, ",
    "pretrain experiment=demo trainer.precision=3": "must be",
    "evaluate checkpoint=untrained evaluation=knnn": "did you mean evaluation=knn?",
    "evaluate checkpoint=lost": "does not exist",
    "evaluate checkpoint=photo.png": "is an image",
    "export checkpoint=lost format=onnx": "does not exist",
    "prepare stats data.rot=images": "data.root",
    "report lost": "no such folder",
    "prepare stats data.root=lost": "does not exist",
    "doctor experimnt=demo": "try experiment=demo",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, dict]:
    """Run all commands in one fresh process, without the hook that imports jaxtyping in the tests."""
    folder = tmp_path_factory.mktemp("startup")
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = subprocess.run(
        [sys.executable, __file__], cwd=folder, capture_output=True, text=True, timeout=600, check=True
    )
    assert not (folder / "outputs").exists()
    return json.loads(done.stdout)


@pytest.mark.parametrize("command", HELP)
def test_help_imports_nothing_slow(command, outcomes):
    outcome = outcomes[f"{command} --help"]
    assert outcome["code"] in (0, None)
    assert f"cim-{command}" in outcome["text"]
    assert not outcome["imported"]


@pytest.mark.parametrize("line", MISTAKES)
def test_a_refused_command_imports_nothing_slow(line, outcomes):
    outcome = outcomes[line]
    assert outcome["code"] == 2
    assert MISTAKES[line] in outcome["text"]
    assert not outcome["imported"]


def _run(line: str) -> dict[str, object]:
    """Run a console script, and return its exit code, its output, and the slow packages that it imported."""
    from cim_lightning.cli import entry

    command, *arguments = line.split()
    sys.argv = [f"cim-{command}", *arguments]
    before, code = set(sys.modules), None
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        try:
            getattr(entry, command)()
        except SystemExit as ended:
            code = ended.code
    imported = [name for name in HEAVY if name in sys.modules and name not in before]
    return {"code": code, "text": out.getvalue(), "imported": imported}


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))  # which would hide other modules
    lines = [*(f"{command} --help" for command in HELP), *MISTAKES]
    print(json.dumps({line: _run(line) for line in lines}))
