"""Interrupted and uninterrupted runs end bit-identical, wherever the interruption happens."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from safetensors.torch import load_file

from cim_lightning import CIM
from cim_lightning.config.compose import CONF
from cim_lightning.config.resume import add_output_dir
from tests.equal_runs import assert_same, metrics, rows

EPOCHS = 3
BATCHES = 5  # per epoch: 43 images, 8 per batch
METHODS = {file.stem for file in (CONF / "method").glob("*.yaml")}
OTHER_METHODS = sorted(METHODS - {"cim", "random"})  # CIM has its own tests here; "random" does not train


class Stop(Exception):
    """Raised inside a run."""


class Interrupt(L.Callback):
    """Raises in the nth call of a hook."""

    def __init__(self, hook: str, call: int, ctrl_c: bool):
        self.left, self.error = call, KeyboardInterrupt if ctrl_c else Stop
        setattr(self, hook, self._count)

    def _count(self, *args: Any, **kwargs: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


def interrupt(hook: str, call: int, ctrl_c: bool = False) -> str:
    settings = f"_target_:{__name__}.Interrupt,hook:{hook},call:{call},ctrl_c:{str(ctrl_c).lower()}"
    return f"+callbacks.stop={{{settings}}}"


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)


def assert_same_run(folder: Path, straight: Path) -> None:
    """Compare weights, optimizer, schedule and all logged values except timings."""
    resumed, expected = checkpoint(folder), checkpoint(straight)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch"):
        assert_same(resumed[part], expected[part], part)
    assert rows(folder) == rows(straight)
    assert metrics(folder) == metrics(straight)


@pytest.fixture
def command(tiny: list[str]) -> Callable[..., list[str]]:
    return lambda accumulate=1: [
        *tiny,
        f"trainer.max_epochs={EPOCHS}",
        f"trainer.accumulate_grad_batches={accumulate}",
    ]


@pytest.fixture
def straight(run_pretrain, command, tmp_path_factory, request) -> Callable[[int], Path]:
    """Return the folder of an uninterrupted run, which runs once per session."""

    def run(accumulate: int) -> Path:
        folder = request.config.stash.setdefault(RUNS, {}).get(accumulate)
        if folder is None:
            folder = tmp_path_factory.mktemp("straight") / "run"
            run_pretrain(*command(accumulate), f"output_dir={folder}")
            request.config.stash[RUNS][accumulate] = folder
        return folder

    return run


RUNS = pytest.StashKey[dict[int, Path]]()


@pytest.mark.parametrize(
    ("hook", "call", "ctrl_c", "accumulate", "workers"),
    [
        ("on_train_batch_end", 8, True, 1, 2),
        ("on_train_batch_start", 7, False, 2, 2),  # before the second of two accumulated batches
        ("on_before_optimizer_step", 8, True, 1, 0),  # inside a batch
        ("on_validation_batch_end", 3, True, 1, 0),  # inside a validation
        ("on_train_epoch_start", 2, False, 2, 0),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    hook, call, ctrl_c, accumulate, workers, run_pretrain, command, straight, tmp_path
):
    expected = straight(accumulate)
    arguments = [*command(accumulate), f"data.num_workers={workers}", "output_dir=run"]
    with pytest.raises(SystemExit if ctrl_c else Stop):
        run_pretrain(*arguments, interrupt(hook, call, ctrl_c))
    assert not (tmp_path / "run" / "metrics.json").exists()
    run_pretrain(*arguments)
    assert_same_run(tmp_path / "run", expected)
    best = (torch.load(folder / "checkpoints" / "best.ckpt") for folder in (tmp_path / "run", expected))
    assert_same(*(weights["state_dict"] for weights in best))


@pytest.mark.parametrize("method", OTHER_METHODS)
def test_a_resumed_run_of_another_method_equals_an_uninterrupted_one(
    method, method_overrides, run_pretrain, tiny, tmp_path
):
    plain = [a for a in tiny if not a.startswith(("cropping=", "decoder."))]
    arguments = [f"method={method}", *plain, *method_overrides[method], f"trainer.max_epochs={EPOCHS}"]
    run_pretrain(*arguments, "output_dir=straight")
    with pytest.raises(Stop):
        run_pretrain(*arguments, "output_dir=run", interrupt("on_train_batch_end", 8))
    run_pretrain(*arguments, "output_dir=run")
    assert_same_run(tmp_path / "run", tmp_path / "straight")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_resumes_from_its_last_save_after_any_kill(
    accumulate, run_pretrain, command, straight, tmp_path
):
    expected = straight(accumulate)
    arguments = [*command(accumulate), "output_dir=run", "callbacks.last.every_minutes=0"]
    for call in (4, 3, 1):  # inside a batch, where nothing is saved
        with pytest.raises(Stop):
            run_pretrain(*arguments, interrupt("on_after_backward", call))
    assert checkpoint(tmp_path / "run")["global_step"] >= 2
    run_pretrain(*arguments)
    assert_same_run(tmp_path / "run", expected)


def test_batch_statistics_of_an_interrupted_step_are_discarded(run_pretrain, command, tmp_path):
    arguments = [a for a in command() if not a.startswith(("backbone", "+backbone"))]
    arguments += ["backbone=resnet18", "backbone.name=test_resnet"]
    run_pretrain(*arguments, "output_dir=straight")
    with pytest.raises(Stop):
        run_pretrain(*arguments, "output_dir=run", interrupt("on_after_backward", 8))
    run_pretrain(*arguments, "output_dir=run")
    assert_same_run(tmp_path / "run", tmp_path / "straight")


def test_the_same_command_resumes_the_unfinished_run(
    run_pretrain, command, straight, tmp_path, monkeypatch, capsys
):
    expected = straight(1)
    calls = iter(range(7))
    update_target = CIM.update_target

    def raise_between_step_and_average(self, progress):
        if next(calls, None) is None:
            raise Stop
        update_target(self, progress)

    with monkeypatch.context() as patch:
        patch.setattr(CIM, "update_target", raise_between_step_and_average)
        with pytest.raises(Stop):
            run_pretrain(*command())
    (folder,) = (tmp_path / "outputs").glob("*/*")
    run_pretrain(*command())
    printed = capsys.readouterr()
    assert f"resuming {folder.relative_to(tmp_path)};" in printed.err
    assert f"resuming {folder}/checkpoints/last.ckpt at step 5" in printed.out
    assert [folder] == list((tmp_path / "outputs").glob("*/*"))
    assert_same_run(folder, expected)


@pytest.mark.parametrize(
    ("arguments", "resumes"),
    [
        (["seed=1"], True),
        (["--config-dir", "mine", "seed=1"], True),
        (["--config-dir=mine", "seed=1"], True),
        (["seed=1", "resume=never"], False),
        (["seed=1", "output_dir=other"], False),
        (["-m", "seed=1"], False),
        (["seed=2"], False),
    ],
)
def test_only_the_same_command_gets_the_folder_of_the_unfinished_run(
    arguments, resumes, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for part, text in (("run.json", '{"overrides": ["seed=1"]}'), ("checkpoints/last.ckpt", "")):
        path = Path("outputs/day/time") / part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    later = Path("outputs/day/zz")  # with an incomplete file
    (later / "checkpoints").mkdir(parents=True)
    (later / "checkpoints" / "last.ckpt").touch()
    (later / "run.json").write_text('{"over')
    expected = [*arguments, "output_dir=outputs/day/time"] if resumes else arguments
    assert add_output_dir(arguments) == expected


class Signal(L.Callback):
    """Send SIGTERM to this process at the start of the nth batch."""

    def __init__(self, batch: int):
        self.left = batch

    def on_train_batch_start(self, *args: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("batch", [3, 12])  # 12: the last one, since two batches make a step
def test_a_run_with_sigterm_in_any_batch_resumes_exactly(batch, run_pretrain, command, straight, tmp_path):
    expected = straight(2)
    with pytest.raises(SystemExit) as ended:
        run_pretrain(
            *command(2), "output_dir=run", f"+callbacks.stop={{_target_:{__name__}.Signal,batch:{batch}}}"
        )
    assert ended.value.code == 128 + signal.SIGTERM
    run_pretrain(*command(2), "output_dir=run")
    assert_same_run(tmp_path / "run", expected)


def test_sigterm_finishes_the_current_step_and_the_run_resumes(run_pretrain, command, straight, tmp_path):
    expected = straight(2)
    (tmp_path / "slow.py").write_text(
        "import time, lightning\n"
        "class Slow(lightning.Callback):\n"
        "    def on_train_batch_start(self, *args):\n"
        "        time.sleep(0.5)\n"
    )
    run = tmp_path / "run"
    script = Path(sys.executable).with_name("cim-pretrain")
    process = subprocess.Popen(
        [script, *command(2), "output_dir=run", "data.num_workers=2", "+callbacks.slow._target_=slow.Slow"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until = time.monotonic() + 120
    while not (run / "metrics.csv").exists() or len(rows(run)) < 6:  # in the second epoch
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)  # the workers too, as `timeout` and schedulers do
    _, errors = process.communicate(timeout=60)
    assert "run the same command to resume" in errors
    assert "Traceback" not in errors
    assert process.returncode == 128 + signal.SIGTERM
    stopped = checkpoint(run)["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["processed"]
    assert stopped in (2, 4, 5)  # batches into an epoch: saved between steps of two
    run_pretrain(*command(2), "output_dir=run")
    assert_same_run(run, expected)


DEVICES = """
import lightning, torch
from cim_lightning.callbacks import checkpoints

checkpoints.SYNC_EVERY = 1


class Watch(lightning.Callback):
    def __init__(self, batch):
        self.left = batch

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("broken")
        views = batch[0].context.flatten(1)
        assert len(torch.cat(tuple(trainer.strategy.all_gather(views))).unique(dim=0)) == 2 * len(views)

    def on_train_end(self, trainer, module):
        for name, tensor in module.state_dict().items():
            assert trainer.strategy.all_gather(tensor).eq(tensor).all(), name
"""


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["cross_attention", "convolution"])
def test_a_run_on_two_devices_resumes_with_equal_weights(decoder, command, tmp_path):
    (tmp_path / "devices.py").write_text(DEVICES)
    arguments = [a for a in command() if decoder == "cross_attention" or not a.startswith("decoder.")]
    arguments += [
        f"decoder={decoder}",
        "decoder.width=16",
        "data.batch_size=4",
        "callbacks.last.every_minutes=0",
    ]
    arguments += ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "target=separate"]

    def run(folder: str, batch: int) -> subprocess.CompletedProcess[str]:
        watch = f"+callbacks.watch={{_target_:devices.Watch,batch:{batch}}}"
        return subprocess.run(
            [Path(sys.executable).with_name("cim-pretrain"), *arguments, f"output_dir={folder}", watch],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
            capture_output=True,
            text=True,
            timeout=300,
        )

    for folder, batch in (("straight", 0), ("run", 8), ("run", 0)):
        done = run(folder, batch)
        assert (done.returncode == 0) == (batch == 0), done.stderr
        assert ("broken" in done.stderr) == (batch > 0), done.stderr
    assert_same_run(tmp_path / "run", tmp_path / "straight")
    assert metrics(tmp_path / "run")["devices"] == 2


ONE_DEVICE = """
import os, signal
import lightning
from cim_lightning.callbacks import checkpoints

checkpoints.SYNC_EVERY = 2


class Stop(lightning.Callback):
    def on_train_batch_end(self, trainer, *args):
        if trainer.global_rank == 1 and trainer.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.slow
@pytest.mark.fault(
    "signal", "SIGTERM to one device of two", "all devices stop at the same step, saved; exit code 143"
)
def test_a_signal_to_one_device_stops_both(command, tmp_path):
    (tmp_path / "one_device.py").write_text(ONE_DEVICE)
    arguments = [*command(), "data.batch_size=4", "callbacks.knn=null", "output_dir=run"]
    arguments += ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    done = subprocess.run(
        [
            Path(sys.executable).with_name("cim-pretrain"),
            *arguments,
            "+callbacks.stop._target_=one_device.Stop",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("cim-pretrain: "))
    assert "stopped by SIGTERM; saved at step 4" in line
    assert checkpoint(tmp_path / "run")["global_step"] == 4


def test_results_deleted_after_the_last_step_are_written_again(run_pretrain, command, straight, tmp_path):
    shutil.copytree(straight(1), "run")
    for name in ("metrics.json", "backbone.json", "backbone.safetensors"):
        (tmp_path / "run" / name).unlink()
    run_pretrain(*command(), "output_dir=run")
    assert_same_run(tmp_path / "run", straight(1))
    assert_same(*(load_file(folder / "backbone.safetensors") for folder in (tmp_path / "run", straight(1))))


def test_a_finished_run_is_reported_and_stays_unchanged(run_pretrain, command, straight, capsys):
    folder = straight(1)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if ".hydra" not in path.parts}
    run_pretrain(*command(), f"output_dir={folder}", "data.num_workers=1")
    assert f"{folder}: already finished" in capsys.readouterr().out
    assert before == {
        path: path.stat().st_mtime_ns for path in before if path.suffix != ".log" or path.exists()
    }


def test_more_epochs_continue_a_finished_run(run_pretrain, command, straight, tmp_path):
    shutil.copytree(straight(1), "run")
    run_pretrain(*command(), "output_dir=run", f"trainer.max_epochs={EPOCHS + 1}")
    assert metrics(tmp_path / "run")["steps"] == (EPOCHS + 1) * BATCHES
    assert [row["step"] for row in rows(tmp_path / "run")] == [str(i) for i in range((EPOCHS + 1) * BATCHES)]


@pytest.mark.parametrize("override", ["trainer.max_epochs=1", "trainer.accelerator=gpuu"])
def test_a_mistake_leaves_a_finished_run_unchanged(
    override, run_pretrain, command, straight, tmp_path, capsys
):
    shutil.copytree(straight(1), "run")
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*command(), "output_dir=run", "trainer.max_epochs=9", override)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cim-pretrain: trainer: ")
    assert metrics(tmp_path / "run") == metrics(straight(1))


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("resume=never", ["resume=never", "has a run already", "another output_dir"]),
        ("optim.base_lr=0.2", [": optim.base_lr=0.2", "started with 0.1", "try optim.base_lr=0.1"]),
        ("seed=3", [": seed=3", "started with 0"]),
        ("cropping.rotation=1", [": cropping.rotation=1", "try cropping.rotation=45"]),
        ("trainer.accumulate_grad_batches=2", ["steps would have 16 images", "had 8; try data.batch_size=4"]),
        ("resume=lost.ckpt", ["resume=lost.ckpt", "no such checkpoint", "try resume=auto"]),
    ],
)
def test_a_run_does_not_resume_with_other_settings(override, parts, run_pretrain, command, straight, capsys):
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*command(), f"output_dir={straight(1)}", override)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    for part in parts:
        assert part in line


def test_a_run_starts_from_the_checkpoint_of_another(run_pretrain, command, straight, tmp_path):
    with pytest.raises(Stop):
        run_pretrain(*command(), "output_dir=first", interrupt("on_train_batch_start", 8))
    run_pretrain(*command(), "output_dir=run", "resume=first/checkpoints/last.ckpt")
    resumed, expected = checkpoint(tmp_path / "run"), checkpoint(straight(1))
    assert_same(resumed["state_dict"], expected["state_dict"])
    assert_same(resumed["optimizer_states"], expected["optimizer_states"])
    assert [row["step"] for row in rows(tmp_path / "run")] == [str(i) for i in range(7, EPOCHS * BATCHES)]
