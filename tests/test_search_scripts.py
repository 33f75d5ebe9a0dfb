"""The scripts that read the trials of a search: the best trial, and the runs in a plot."""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def script(path):
    spec = importlib.util.spec_from_file_location("script", EXPERIMENTS / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(setting, mean, pooled, probe):
    knn = {"k-NN, mean, k = 20, %": mean, "k-NN, pooled, k = 20, %": pooled}
    return {"setting": setting, "seed": "0", **knn, "probe, mean, %": probe, "probe, pooled, %": ""}


def test_the_best_trial_has_the_highest_mean_over_its_seeds_of_knn_and_probe():
    lr = ["compare=c/mae, optim.base_lr=1", "compare=c/mae, optim.base_lr=2"]
    rows = [row(lr[0], "30", "34", "40"), row(lr[0], "30", "20", "44"), row(lr[1], "36", "0", "40")]
    rows += [row(lr[1], "99", "99", ""), row("compare=c/cim, optim.base_lr=1", "10", "20", "30")]
    # 1: (37 + 37) / 2; 2: 38, and a run without a probe
    found = script("search/best.py").best(rows)
    assert found == {"c/mae": ("optim.base_lr=2", 38, 2), "c/cim": ("optim.base_lr=1", 25, 1)}


def test_a_plot_has_the_better_features_of_finished_trials(tmp_path):
    plot = script("plot_frontier.py")
    numbers = {
        "forward_flops_per_image": 1e9,
        "backward_flops_per_image": 2e9,
        "images_seen": 1000,
        "seconds": 5,
    }
    numbers |= {"evaluation/knn/mean_k20": 30, "evaluation/knn/pooled_k20": 31, "evaluation/linear/mean": 40}
    records = [{"name": "mae 1", "numbers": numbers}, {"name": "mae 2", "numbers": {}, "error": ["no"]}]
    (tmp_path / "trials.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (trial,) = plot.read_trials(tmp_path / "trials.jsonl")
    assert trial.method == "mae"
    assert trial.costs == pytest.approx({"TFLOP total": 3, "seconds": 5})
    assert trial.results == {"k-NN, %": 31, "linear probe, %": 40}
    head = 'setting,seed,folder,TFLOP total,seconds,"k-NN, mean, k = 20, %","k-NN, pooled, k = 20, %"'
    (tmp_path / "table.csv").write_text(f'{head}\n"compare=c/cim, seed=1",1,0,3,7,20,25\n')
    (run,) = plot.read_table(tmp_path / "table.csv")
    assert run == ("cim", {"TFLOP total": 3, "seconds": 7}, {"k-NN, %": 25})
    plot.main(tmp_path / "plot.png", tmp_path / "trials.jsonl", tmp_path / "table.csv")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_a_search_records_failed_trials_too_and_runs_each_once(tmp_path, monkeypatch):
    search = script("search/run.py")
    commands = []

    def run(command, **options):
        commands.append(command)
        folder = Path(next(part for part in command if part.startswith("output_dir=")).split("=")[1])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps({"seconds": 7, "device": "x"}))
        if "lr=9" in command:
            return subprocess.CompletedProcess(command, 2, "", "a\nlr=9: too high\n")
        (folder / "evaluation").mkdir()
        (folder / "evaluation" / "metrics.json").write_text(json.dumps({"knn/mean_k20": 40.5}))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(search.subprocess, "run", run)
    plan, results = tmp_path / "plan.yaml", tmp_path / "results.jsonl"
    plan.write_text("common: [seed=3]\ntrials:\n  good: [lr=1]\n  bad: [lr=9]\n")
    search.main(plan, "images", results)
    search.main(plan, "images", results)
    good, bad = (json.loads(line) for line in results.read_text().splitlines())
    assert len(commands) == 2
    assert commands[0][1:4] == ["seed=3", "lr=1", "data.root=images"]
    assert good["numbers"] == {"seconds": 7, "knn/mean_k20": 40.5}
    assert bad["error"] == ["lr=9: too high"]
    assert "error" not in good
    assert not (tmp_path / "runs").exists()
    search.main(plan, "images", tmp_path / "again.jsonl", tmp_path / "runs")
    assert sorted(folder.name for folder in (tmp_path / "runs").iterdir()) == ["bad", "good"]


def test_the_table_of_sensitivity_has_a_row_for_each_variant(tmp_path, capsys):
    table = script("sensitivity/table.py")
    records = [{"name": "tokens", "numbers": {"val/exemplar_sensitivity": 71.49, "linear/mean": 42.78}}]
    records += [{"name": "joint", "numbers": {}, "error": ["width=3"]}]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    table.main(tmp_path / "results.jsonl")
    rows = [line.strip("| ").split("|") for line in capsys.readouterr().out.splitlines()]
    assert [cell.strip() for cell in rows[2]][:3] == ["tokens", "71.5", ""]
    assert rows[2][11].strip() == "42.8"
    assert [cell.strip() for cell in rows[3]][:2] == ["joint", "width=3"]
