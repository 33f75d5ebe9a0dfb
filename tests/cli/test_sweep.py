"""Sweeps: failed jobs, killed sweeps, launchers, and the rerun of the missing jobs."""

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
from cim_lightning.config.resume import add_output_dir

CLOCK = {"images/s", "seconds"}
PRETRAIN = "from cim_lightning.cli.main import pretrain; pretrain()"
SRC = Path(__file__).parents[2] / "src"


@pytest.fixture
def small(tiny: list[str]) -> list[str]:
    """A run of two steps."""
    shared = [override for override in tiny if not override.startswith(("trainer.max_epochs", "+backbone"))]
    return [*shared, "trainer.max_steps=2", "callbacks.knn=null"]


def start(arguments: list[str], folder: Path, **kwargs: Any) -> subprocess.Popen[str]:
    """Start `cim-pretrain` in its own process group; this folder is importable there."""
    paths = [str(SRC), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-c", PRETRAIN, *arguments],
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
    """Raise or press Ctrl-C in the first step of training, unless the file `mended` exists."""

    def __init__(self, angle: int, error: str = "RuntimeError"):
        self.angle, self.ctrl_c = angle, error == "Ctrl-C"

    def on_train_batch_start(self, trainer: Any, module: Any, *args: Any) -> None:
        if module.hparams["cropping"]["rotation"] == self.angle and not Path("mended").exists():
            if not self.ctrl_c:
                raise RuntimeError("broken\nin two lines")
            os.kill(os.getpid(), signal.SIGINT)


def breaks(angle: int, error: str = "RuntimeError") -> str:
    return f"+callbacks.breaks={{_target_:{__name__}.Breaks,angle:{angle},error:{error}}}"


def test_a_failed_job_does_not_stop_the_sweep_and_a_rerun_finishes_it(run_pretrain, small, tmp_path, capfd):
    """0 raises, 400 is a user's error, 45 works; in the rerun 0 works too."""
    command = ["-m", *small, "cropping.rotation=0,400,45", breaks(0)]
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*command)
    assert ended.value.code == 1
    (sweep,) = (tmp_path / "outputs").glob("*/*")
    broken = json.loads((sweep / "0" / "failure.json").read_text())
    assert broken["reason"] == "RuntimeError: broken"
    assert "in on_train_batch_start" in (sweep / "0" / "failure.txt").read_text()
    mistaken = json.loads((sweep / "1" / "failure.json").read_text())["reason"]
    assert mistaken.startswith("cropping.rotation=400: ")
    assert not (sweep / "2" / "failure.json").exists()
    assert [row["folder"] for row in table(sweep)] == ["2"]
    output = capfd.readouterr().out
    written = (sweep / "table.md").read_text()
    assert written.strip() in output
    assert written.splitlines()[-2:] == [
        "failed: 0 (cropping.rotation=0): RuntimeError: broken",
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
    (skipped,) = (line for line in capfd.readouterr().out.splitlines() if "already finished" in line)
    assert skipped.startswith(str(sweep / "2"))


def test_wandb_has_one_run_per_job_after_a_failed_job_too(run_pretrain, small, tmp_path):
    wandb = ["logger=[wandb]", "logger.wandb.mode=offline"]
    jobs = ["cropping.rotation=0,45", breaks(0), "output_dir=sweep"]
    with pytest.raises(SystemExit):
        run_pretrain(
            "-m", *[override for override in small if not override.startswith("logger")], *wandb, *jobs
        )
    for job in ("0", "1"):
        assert len(list((tmp_path / "sweep" / job / "wandb").glob("offline-run-*"))) == 1


def test_a_single_run_raises_its_error(run_pretrain, small, tmp_path):
    with pytest.raises(RuntimeError, match="broken"):
        run_pretrain(*small, breaks(45), "output_dir=run")
    assert not (tmp_path / "run" / "failure.json").exists()


@pytest.mark.fault(
    "signal", "Ctrl-C during a job of a sweep", "one line; exit code 130; no further job starts"
)
def test_ctrl_c_stops_the_whole_sweep(run_pretrain, small, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        run_pretrain("-m", *small, "cropping.rotation=0,45", breaks(0, "Ctrl-C"), "output_dir=sweep")
    assert ended.value.code == 130
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("cim-pretrain: "))
    assert line.startswith("cim-pretrain: stopped by Ctrl-C; ")
    assert line.endswith("; run the same command to start again")
    assert [path.name for path in sorted((tmp_path / "sweep").glob("?"))] == ["0"]
    assert not list((tmp_path / "sweep").rglob("failure.json"))
    assert not (tmp_path / "sweep" / "table.md").exists()


class Waits(L.Callback):
    """Block one job in its second epoch, once."""

    def __init__(self, angle: int):
        self.angle = angle

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        blocked = module.hparams["cropping"]["rotation"] == self.angle and trainer.global_step == 2
        if blocked and not Path("waited").exists():
            Path("waited").touch()
            time.sleep(600)


@pytest.mark.slow
def test_a_killed_and_rerun_sweep_has_the_table_of_an_uninterrupted_one(run_pretrain, small, tmp_path):
    shared = [
        override for override in small if not override.startswith(("trainer.max_steps", "callbacks.knn"))
    ]
    command = [
        "-m",
        *shared,
        "trainer.max_steps=4",
        "callbacks.knn.every_n_epochs=1",
        "callbacks.last.every_minutes=0",
        "evaluation=[knn,linear]",
        "evaluation.linear.epochs=2",
        "cropping.rotation=0,45,90",
        "+callbacks.waits={_target_:test_sweep.Waits,angle:45}",
    ]
    process = start(command, tmp_path)
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
    again = start(command, tmp_path)
    output, _ = again.communicate(timeout=240)
    assert again.returncode == 0, output
    assert f"resuming {sweep.relative_to(tmp_path)}" in output
    assert output.count("already finished") == 1
    assert [sweep] == list((tmp_path / "outputs").glob("*/*"))
    assert (sweep / "0" / "metrics.json").stat().st_mtime_ns == first

    straight = start([*command, "output_dir=straight"], tmp_path)
    output, _ = straight.communicate(timeout=240)
    assert straight.returncode == 0, output
    assert table(sweep) == table(tmp_path / "straight")
    assert [row["setting"] for row in table(sweep)] == [f"cropping.rotation={angle}" for angle in (0, 45, 90)]
    assert all(row["probe, mean, %"] for row in table(sweep))


SWEPT = ["-m", "seed=0,1"]


@pytest.mark.parametrize(
    ("arguments", "files", "resumes"),
    [
        (SWEPT, [], True),
        (["--multirun", "seed=0,1"], [], True),
        ([*SWEPT, "--config-dir", "mine"], [], True),
        ([*SWEPT, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], [], True),  # cannot change a result
        (SWEPT, ["table.md", "1/failure.json"], True),
        (SWEPT, ["table.md"], False),  # complete
        (["-m", "seed=0,1,2"], [], False),
        ([*SWEPT, "resume=never"], [], False),
        ([*SWEPT, "output_dir=other"], [], False),
        ([*SWEPT, "hydra.sweep.dir=other"], [], False),
        ([*SWEPT, "--cfg=job"], [], False),
        (["seed=0,1"], [], False),
    ],
)
def test_only_the_same_command_resumes_the_unfinished_sweep(arguments, files, resumes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = Path("outputs/day/time")
    sweep.mkdir(parents=True)
    overrides = {"task": ["seed=0,1", "output_dir=outputs/day/time"], "hydra": ["hydra.mode=MULTIRUN"]}
    (sweep / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": overrides}}))
    for name in files:
        (sweep / name).parent.mkdir(exist_ok=True)
        (sweep / name).touch()
    assert add_output_dir(arguments) == ([*arguments, f"output_dir={sweep}"] if resumes else arguments)


LAUNCHERS = {
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit": ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"],
}


@pytest.mark.parametrize("launcher", ["joblib", pytest.param("submitit", marks=pytest.mark.slow)])
def test_a_failed_job_in_its_own_process_does_not_stop_the_sweep(launcher, small, tmp_path):
    command = ["-m", *small, "cropping.rotation=45,400", "output_dir=sweep", *LAUNCHERS[launcher]]
    process = start(command, tmp_path)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 1, output
    assert [row["folder"] for row in table(tmp_path / "sweep")] == ["0"]
    assert "failed: 1 (cropping.rotation=400)" in output
    if launcher == "joblib":  # submitit logs the traceback itself
        assert "Traceback" not in output


class Dies(L.Callback):
    """Kill the process of a job, as if out of memory, unless the file `mended` exists."""

    def __init__(self, angle: int):
        self.angle = angle

    def on_train_batch_start(self, trainer: Any, module: Any, *args: Any) -> None:
        if module.hparams["cropping"]["rotation"] == self.angle and not Path("mended").exists():
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_killed_job_is_reported_and_a_rerun_finishes_the_sweep(launcher, small, tmp_path):
    dies = "+callbacks.dies={_target_:test_sweep.Dies,angle:45}"
    command = ["-m", *small, "cropping.rotation=45,90", dies, *LAUNCHERS[launcher]]
    process = start(command, tmp_path)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 1, output
    (sweep,) = (tmp_path / "outputs").glob("*/*")
    reason = json.loads((sweep / "0" / "failure.json").read_text())["reason"]
    assert reason.startswith("its process died (")
    assert f"failed: 0 (cropping.rotation=45): {reason}" in output
    assert "Traceback" not in output.splitlines()[-1]
    assert output.splitlines()[-1].endswith("rerun the same command to finish the missing jobs")
    assert not (sweep / "table.md").exists()
    (tmp_path / "mended").touch()
    again = start(command, tmp_path)
    output, _ = again.communicate(timeout=240)
    assert again.returncode == 0, output
    assert [row["folder"] for row in table(sweep)] == ["0", "1"]
    assert not list(sweep.rglob("failure.json"))


def test_a_job_that_another_process_runs_is_skipped(run_pretrain, small, tmp_path, capfd):
    lock = FileLock(tmp_path / "sweep" / "0" / ".lock")
    (tmp_path / "sweep" / "0").mkdir(parents=True)
    command = ["-m", *small, "cropping.rotation=45,90", "output_dir=sweep"]
    with lock, pytest.raises(SystemExit) as ended:
        run_pretrain(*command)
    assert ended.value.code == 1
    printed = capfd.readouterr()
    assert "another process works there" in printed.out + printed.err
    assert "unfinished jobs: 0; rerun the same command to finish the missing jobs" in printed.err
    assert not (tmp_path / "sweep" / "0" / "failure.json").exists()
    assert not (tmp_path / "sweep" / "table.md").exists()
    run_pretrain(*command)
    assert [row["folder"] for row in table(tmp_path / "sweep")] == ["0", "1"]


class Notes(L.Callback):
    """Write when a job trained, and which GPU it saw."""

    def __init__(self, folder: str):
        self.folder = Path(folder)
        self.since = 0.0

    def on_fit_start(self, *args: Any) -> None:
        self.since = time.time()

    def on_fit_end(self, *args: Any) -> None:
        seen = [self.since, time.time(), os.environ["CUDA_VISIBLE_DEVICES"]]
        (self.folder / "notes.json").write_text(json.dumps(seen))


@pytest.mark.slow
def test_ray_runs_one_job_per_gpu_and_queues_the_others(small, tmp_path):
    """Ray gets one GPU that this machine does not have; with two, all jobs would share two cores."""
    gpus = [
        "hydra/launcher=gpus",
        "+hydra.launcher.ray.init.num_gpus=1",
        "+hydra.launcher.ray.init.num_cpus=3",
    ]
    notes = "+callbacks.notes={_target_:test_sweep.Notes,folder:${paths.run}}"
    command = ["-m", *small, "cropping.rotation=45,90", "output_dir=sweep", *gpus, notes]
    process = start(command, tmp_path)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert [row["folder"] for row in table(tmp_path / "sweep")] == ["0", "1"]
    jobs = sorted(json.loads(path.read_text()) for path in (tmp_path / "sweep").glob("*/notes.json"))
    assert [gpu for *_, gpu in jobs] == ["0", "0"]
    assert jobs[0][1] <= jobs[1][0]


def test_an_aborted_launcher_fails_only_the_jobs_that_no_process_runs(tmp_path, monkeypatch, capsys):
    """As on a cluster, where one job was killed and another still runs."""
    for job in ("0", "1", "2"):
        (tmp_path / job / ".hydra").mkdir(parents=True)
        (tmp_path / job / ".hydra" / "overrides.yaml").write_text(f"- seed={job}\n")
    for name in ("metrics.json", "backbone.json"):
        (tmp_path / "2" / name).write_text("{}")
    process = sweep.current_sweep()
    monkeypatch.setattr(process, "folder", tmp_path)
    with FileLock(tmp_path / "1" / ".lock"), pytest.raises(ZeroDivisionError), sweep.report_aborted():
        raise ZeroDivisionError("broken")
    assert [path.parent.name for path in tmp_path.glob("*/failure.json")] == ["0"]
    assert "failed: 0 (seed=0): its process died (ZeroDivisionError: broken)" in capsys.readouterr().err
    assert process.folder is None
