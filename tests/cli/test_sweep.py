"""Sweeps: a job that fails, a sweep that is killed, what launches and what searches, what is refused."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import yaml
from filelock import FileLock

from cim_lightning.cli import sweep
from cim_lightning.config.resume import rerouted

CLOCK = {"images/s", "seconds"}
DOOR = "from cim_lightning.cli.main import pretrain; pretrain()"
SRC = Path(__file__).parents[2] / "src"


@pytest.fixture
def small(tiny: list[str]) -> list[str]:
    """A run of two steps."""
    kept = [one for one in tiny if not one.startswith(("trainer.max_epochs", "+backbone"))]
    return [*kept, "trainer.max_steps=2", "callbacks.knn=null"]


def started(arguments: list[str], folder: Path, **kwargs: Any) -> subprocess.Popen[str]:
    """`cim-pretrain` in a process of its own, group and all; the tests' own modules are there to be named."""
    paths = [str(SRC), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-c", DOOR, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **kwargs,
    )


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in CLOCK} for row in csv.DictReader(file)]


class Breaks(L.Callback):
    """An error in the first step of training, unless a file says not to."""

    def __init__(self, angle: int, error: str = "RuntimeError"):
        self.angle = angle
        self.error = KeyboardInterrupt if error == "KeyboardInterrupt" else RuntimeError

    def on_train_batch_start(self, trainer: Any, module: Any, *args: Any) -> None:
        if module.hparams["cropping"]["rotation"] == self.angle and not Path("mended").exists():
            raise self.error("struck\nin two lines")


def breaks(angle: int, error: str = "RuntimeError") -> str:
    return f"+callbacks.breaks={{_target_:{__name__}.Breaks,angle:{angle},error:{error}}}"


def test_a_failing_job_is_recorded_and_ends_no_other_and_a_rerun_does_what_is_missing(
    run_pretrain, small, tmp_path, capfd
):
    """0 breaks, 400 is a user's mistake, 45 is well; the next time 0 is well too."""
    command = ["-m", *small, "cropping.rotation=0,400,45", breaks(0)]
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*command)
    assert ended.value.code == 1
    (sweep,) = (tmp_path / "outputs").glob("*/*")
    broken = json.loads((sweep / "0" / "failure.json").read_text())
    assert broken["reason"] == "RuntimeError: struck"
    assert "in on_train_batch_start" in (sweep / "0" / broken["traceback"]).read_text()
    mistaken = json.loads((sweep / "1" / "failure.json").read_text())["reason"]
    assert mistaken.startswith("cropping.rotation=400: ")
    assert not (sweep / "2" / "failure.json").exists()
    assert [row["folder"] for row in table(sweep)] == ["2"]
    said = capfd.readouterr().out
    written = (sweep / "table.md").read_text()
    assert written.strip() in said
    assert written.splitlines()[-2:] == [
        "failed: 0 (cropping.rotation=0): RuntimeError: struck",
        f"failed: 1 (cropping.rotation=400): {mistaken}",
    ]

    (tmp_path / "mended").touch()
    before = (sweep / "2" / "metrics.json").stat().st_mtime_ns
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*command)
    assert ended.value.code == 1
    assert [sweep] == list((tmp_path / "outputs").glob("*/*"))
    assert not (sweep / "0" / "failure.json").exists()
    assert not (sweep / "0" / "failure.txt").exists()
    assert [row["folder"] for row in table(sweep)] == ["0", "2"]
    assert (sweep / "2" / "metrics.json").stat().st_mtime_ns == before
    (skipped,) = (line for line in capfd.readouterr().out.splitlines() if "holds this run" in line)
    assert skipped.startswith(str(sweep / "2"))


def test_wandb_gets_a_run_a_job_after_one_that_failed_too(run_pretrain, small, tmp_path):
    wandb = ["logger=[wandb]", "logger.wandb.mode=offline"]
    jobs = ["cropping.rotation=0,45", breaks(0), "output_dir=sweep"]
    with pytest.raises(SystemExit):
        run_pretrain("-m", *[one for one in small if not one.startswith("logger")], *wandb, *jobs)
    for job in ("0", "1"):
        assert len(list((tmp_path / "sweep" / job / "wandb").glob("offline-run-*"))) == 1


def test_a_lone_run_fails_as_ever(run_pretrain, small, tmp_path):
    with pytest.raises(RuntimeError, match="struck"):
        run_pretrain(*small, breaks(45), "output_dir=run")
    assert not (tmp_path / "run" / "failure.json").exists()


def test_ctrl_c_ends_the_whole_sweep(run_pretrain, small, tmp_path):
    with pytest.raises(SystemExit) as ended:
        run_pretrain(
            "-m", *small, "cropping.rotation=0,45", breaks(0, "KeyboardInterrupt"), "output_dir=sweep"
        )
    assert ended.value.code not in (0, None)
    assert [path.name for path in sorted((tmp_path / "sweep").glob("?"))] == ["0"]
    assert not list((tmp_path / "sweep").rglob("failure.json"))
    assert not (tmp_path / "sweep" / "table.md").exists()


class Waits(L.Callback):
    """Holds the second job in its second epoch until it is killed."""

    def __init__(self, angle: int):
        self.angle = angle

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        held = module.hparams["cropping"]["rotation"] == self.angle and trainer.global_step == 2
        if held and not Path("waited").exists():
            Path("waited").touch()
            time.sleep(600)


def test_a_sweep_killed_half_way_and_rerun_ends_with_the_table_of_an_unbroken_one(
    run_pretrain, small, tmp_path
):
    kept = [one for one in small if not one.startswith(("trainer.max_steps", "callbacks.knn"))]
    command = [
        "-m",
        *kept,
        "trainer.max_steps=4",
        "callbacks.knn.every_n_epochs=1",
        "callbacks.last.every_minutes=0",
        "evaluation=[knn,linear]",
        "evaluation.linear.epochs=2",
        "cropping.rotation=0,45,90",
        "+callbacks.waits={_target_:test_sweep.Waits,angle:45}",
    ]
    process = started(command, tmp_path)
    until = time.monotonic() + 240
    while not (tmp_path / "waited").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (sweep,) = (tmp_path / "outputs").glob("*/*")
    assert not (sweep / "table.md").exists()
    assert (sweep / "0" / "metrics.json").exists()
    assert not (sweep / "1" / "metrics.json").exists()
    assert not (sweep / "2").exists()

    first = (sweep / "0" / "metrics.json").stat().st_mtime_ns
    again = started(command, tmp_path)
    said, _ = again.communicate(timeout=240)
    assert again.returncode == 0, said
    assert f"going on with {sweep.relative_to(tmp_path)}" in said
    assert said.count("holds this run, finished") == 1
    assert [sweep] == list((tmp_path / "outputs").glob("*/*"))
    assert (sweep / "0" / "metrics.json").stat().st_mtime_ns == first

    unbroken = started([*command, "output_dir=unbroken"], tmp_path)
    said, _ = unbroken.communicate(timeout=240)
    assert unbroken.returncode == 0, said
    assert table(sweep) == table(tmp_path / "unbroken")
    assert [row["setting"] for row in table(sweep)] == [f"cropping.rotation={angle}" for angle in (0, 45, 90)]
    assert all(row["probe, %"] for row in table(sweep))


SWEPT = ["-m", "seed=0,1"]


@pytest.mark.parametrize(
    ("arguments", "left", "goes_on"),
    [
        (SWEPT, [], True),
        (["--multirun", "seed=0,1"], [], True),
        ([*SWEPT, "--config-dir", "mine"], [], True),
        ([*SWEPT, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], [], True),  # how, not what
        (SWEPT, ["table.md", "1/failure.json"], True),
        (SWEPT, ["table.md"], False),  # it came to its end
        (["-m", "seed=0,1,2"], [], False),
        ([*SWEPT, "resume=never"], [], False),
        ([*SWEPT, "output_dir=other"], [], False),
        ([*SWEPT, "hydra.sweep.dir=other"], [], False),
        ([*SWEPT, "--cfg=job"], [], False),
        (["seed=0,1"], [], False),
    ],
)
def test_only_the_same_command_is_sent_to_the_unfinished_sweep(
    arguments, left, goes_on, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    sweep = Path("outputs/day/time")
    sweep.mkdir(parents=True)
    overrides = {"task": ["seed=0,1", "output_dir=outputs/day/time"], "hydra": ["hydra.mode=MULTIRUN"]}
    (sweep / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": overrides}}))
    for name in left:
        (sweep / name).parent.mkdir(exist_ok=True)
        (sweep / name).touch()
    assert rerouted(arguments) == ([*arguments, f"output_dir={sweep}"] if goes_on else arguments)


LAUNCHERS = {
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit": ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"],
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_jobs_in_processes_of_their_own_outlive_one_that_fails(launcher, small, tmp_path):
    command = ["-m", *small, "cropping.rotation=45,400", "output_dir=sweep", *LAUNCHERS[launcher]]
    process = started(command, tmp_path)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 1, said
    assert [row["folder"] for row in table(tmp_path / "sweep")] == ["0"]
    assert "failed: 1 (cropping.rotation=400)" in said
    if launcher == "joblib":  # submitit keeps its own log of what a job printed
        assert "Traceback" not in said


class Dies(L.Callback):
    """As a job does that runs out of memory, unless a file says not to."""

    def __init__(self, angle: int):
        self.angle = angle

    def on_train_batch_start(self, trainer: Any, module: Any, *args: Any) -> None:
        if module.hparams["cropping"]["rotation"] == self.angle and not Path("mended").exists():
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_job_that_is_killed_is_told_and_the_same_command_does_what_is_missing(launcher, small, tmp_path):
    dies = "+callbacks.dies={_target_:test_sweep.Dies,angle:45}"
    command = ["-m", *small, "cropping.rotation=45,90", dies, *LAUNCHERS[launcher]]
    process = started(command, tmp_path)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 1, said
    (sweep,) = (tmp_path / "outputs").glob("*/*")
    reason = json.loads((sweep / "0" / "failure.json").read_text())["reason"]
    assert reason.startswith("ended with its process (")
    assert f"failed: 0 (cropping.rotation=45): {reason}" in said
    assert "Traceback" not in said.splitlines()[-1]
    assert said.splitlines()[-1].endswith("the same command does what is missing")
    assert not (sweep / "table.md").exists()
    (tmp_path / "mended").touch()
    again = started(command, tmp_path)
    said, _ = again.communicate(timeout=240)
    assert again.returncode == 0, said
    assert [row["folder"] for row in table(sweep)] == ["0", "1"]
    assert not list(sweep.rglob("failure.json"))


def test_a_job_that_another_process_is_at_is_left_to_it(run_pretrain, small, tmp_path, capfd):
    held = FileLock(tmp_path / "sweep" / "0" / ".lock")
    (tmp_path / "sweep" / "0").mkdir(parents=True)
    command = ["-m", *small, "cropping.rotation=45,90", "output_dir=sweep"]
    with held, pytest.raises(SystemExit) as ended:
        run_pretrain(*command)
    assert ended.value.code == 1
    said = capfd.readouterr()
    assert "another process is at work there" in said.out + said.err
    assert "unfinished: 0; the same command does them" in said.err
    assert not (tmp_path / "sweep" / "0" / "failure.json").exists()
    assert not (tmp_path / "sweep" / "table.md").exists()
    run_pretrain(*command)
    assert [row["folder"] for row in table(tmp_path / "sweep")] == ["0", "1"]


class Notes(L.Callback):
    """Keeps when a job trained, and which GPU it was shown."""

    def __init__(self, folder: str):
        self.folder = Path(folder)
        self.since = 0.0

    def on_fit_start(self, *args: Any) -> None:
        self.since = time.time()

    def on_fit_end(self, *args: Any) -> None:
        seen = [self.since, time.time(), os.environ["CUDA_VISIBLE_DEVICES"]]
        (self.folder / "notes.json").write_text(json.dumps(seen))


def test_ray_has_a_job_a_gpu_while_the_others_queue(small, tmp_path):
    """Of one GPU, which ray is only told of; with more, all jobs would begin at once on two cores."""
    gpus = [
        "hydra/launcher=gpus",
        "+hydra.launcher.ray.init.num_gpus=1",
        "+hydra.launcher.ray.init.num_cpus=3",
    ]
    notes = "+callbacks.notes={_target_:test_sweep.Notes,folder:${paths.run}}"
    command = ["-m", *small, "cropping.rotation=45,90", "output_dir=sweep", *gpus, notes]
    process = started(command, tmp_path)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert [row["folder"] for row in table(tmp_path / "sweep")] == ["0", "1"]
    jobs = sorted(json.loads(path.read_text()) for path in (tmp_path / "sweep").glob("*/notes.json"))
    assert [gpu for *_, gpu in jobs] == ["0", "0"]
    assert jobs[0][1] <= jobs[1][0]


def test_where_a_launcher_gives_up_jobs_that_others_are_at_have_not_failed(tmp_path, monkeypatch, capsys):
    """As on a cluster, where one job was killed and another goes on."""
    for job in ("0", "1", "2"):
        (tmp_path / job / ".hydra").mkdir(parents=True)
        (tmp_path / job / ".hydra" / "overrides.yaml").write_text(f"- seed={job}\n")
    for name in ("metrics.json", "backbone.json"):
        (tmp_path / "2" / name).write_text("{}")
    monkeypatch.setattr(sweep, "_under_way", [tmp_path])
    with FileLock(tmp_path / "1" / ".lock"), pytest.raises(ZeroDivisionError), sweep.survived():
        raise ZeroDivisionError("struck")
    assert [path.parent.name for path in tmp_path.glob("*/failure.json")] == ["0"]
    assert "failed: 0 (seed=0): ended with its process (ZeroDivisionError: struck)" in capsys.readouterr().err
    assert sweep._under_way == []
