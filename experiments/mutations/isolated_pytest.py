"""Run pytest in a fork of a process that has already imported the libraries, but not this project."""

import importlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

LIBRARIES = (
    "torch", "torchvision.transforms.v2", "timm", "lightning", "kornia", "torchmetrics", "hydra", "omegaconf",
    "matplotlib.figure", "scipy", "PIL.Image", "safetensors.torch", "pytest", "hypothesis", "beartype",
    "jaxtyping",
)  # fmt: skip


def preload() -> None:
    """Import the libraries, which takes longer than most test files."""
    for name in LIBRARIES:
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)


class Selection:
    """pytest plugin: run the given tests in their order; record lines, durations and the first failure.

    Args:
        nodes: test ids; None: all tests.
        trace: folder of sources whose executed lines are recorded per test; None: no recording.
    """

    def __init__(self, nodes: Sequence[str] | None, trace: str | None = None):
        self.order = None if nodes is None else {node: i for i, node in enumerate(nodes)}
        self.trace_folder, self.lines = trace, {}
        self.tests: dict[str, dict[str, Any]] = {}
        self.failed = ""

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if self.order is not None:
            items[:] = sorted(
                (i for i in items if i.nodeid in self.order), key=lambda i: self.order[i.nodeid]
            )

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.lines, self.started, self.passed = {}, time.monotonic(), True
        if self.trace_folder:
            threading.settrace(self._call)
            sys.settrace(self._call)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.passed &= not report.failed
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        sys.settrace(None)
        threading.settrace(None)  # pyright: ignore
        lines = {path: sorted(found) for path, found in self.lines.items()}
        seconds = time.monotonic() - self.started
        self.tests[nodeid] = {"passed": self.passed, "seconds": seconds, "lines": lines}

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        path = frame.f_code.co_filename
        if not path.startswith(self.trace_folder):
            return None
        found = self.lines.setdefault(path, set())
        found.add(frame.f_lineno)

        def line(frame: FrameType, event: str, arg: Any) -> Any:
            found.add(frame.f_lineno)
            return line

        return line


def run(
    tree: Path, files: Sequence[str], nodes: Sequence[str] | None, seconds: float, trace: bool = False
) -> dict[str, Any]:
    """Run tests of a copy of the repository in a child process.

    Returns:
        "code" (exit code of pytest, None after `seconds`), "failed" (the first failed test) and "tests".
    """
    answer = tree / "answer.json"
    answer.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        os.setsid()
        os._exit(_run_in_child(tree, files, nodes, answer, trace))
    deadline = time.monotonic() + seconds
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"code": None, "failed": "", "tests": {}}
        time.sleep(0.05)
    if not answer.exists():
        return {"code": -1, "failed": "the test process died", "tests": {}}
    return json.loads(answer.read_text())


def _run_in_child(
    tree: Path, files: Sequence[str], nodes: Sequence[str] | None, answer: Path, trace: bool
) -> int:
    log = os.open(tree / "pytest.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(tree)
    source, temporary = str(tree / "src"), tree / "pytest_tmp"
    sys.path.insert(0, source)
    os.environ["PYTHONPATH"] = source  # for the processes that tests start
    sys.dont_write_bytecode = not trace  # a mutant must not leave bytecode behind
    pytest: Any = importlib.import_module("pytest")
    selection = Selection(nodes, source if trace else None)
    arguments = ["-q", "--no-header", "-p", "no:cacheprovider", f"--basetemp={temporary}", "-m", "not slow"]
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of preloaded plugins
    code = pytest.main([*arguments, *([] if trace else ["-x"]), *files], plugins=[selection])
    shutil.rmtree(temporary, ignore_errors=True)
    report = {"code": int(code), "failed": selection.failed, "tests": selection.tests}
    answer.write_text(json.dumps(report))
    return 0
