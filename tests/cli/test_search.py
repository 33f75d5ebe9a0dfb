"""A search with optuna: its objective, a failed trial, and a rerun of the missing trials."""

import csv
import json

import pytest
import yaml
from hydra import compose, initialize_config_dir

from cim_lightning.config import validate
from cim_lightning.config.compose import CONF, register_resolvers

# optuna 2.10, the last version that Hydra supports, uses a deprecated API of SQLAlchemy
pytestmark = pytest.mark.filterwarnings("ignore:The ``declarative_base")
NAME = "experiment=[cifar10_cpu,search/scale_and_rate]"
SMALL = [
    "backbone.kwargs.depth=1",
    "backbone.kwargs.embed_dim=32",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "trainer.log_every_n_steps=1",
    "callbacks.panels=null",
    "callbacks.knn=null",
    "hydra.sweeper.n_trials=3",
]


def test_three_trials_find_the_best_and_a_rerun_repeats_only_the_missing_one(
    run_pretrain, photos, tmp_path, capfd
):
    command = ["-m", NAME, *SMALL, f"data.root={photos}"]
    run_pretrain(*command)
    (search,) = (tmp_path / "outputs").glob("*/*")
    found = yaml.safe_load((search / "optimization_results.yaml").read_text())
    measured = [
        json.loads((search / str(i) / "evaluation" / "metrics.json").read_text())["knn/mean_k20"]
        for i in range(3)
    ]
    assert found["best_value"] == max(measured)
    best = yaml.safe_load((search / str(measured.index(max(measured))) / "config.yaml").read_text())
    params = found["best_params"]
    assert params.keys() == {"cropping.scale.0", "cropping.scale.1", "optim.base_lr"}
    assert [params["cropping.scale.0"], params["cropping.scale.1"]] == best["cropping"]["scale"]
    assert params["optim.base_lr"] == best["optim"]["base_lr"]
    assert 0.02 <= params["cropping.scale.0"] <= 0.2
    assert 0.25 <= params["cropping.scale.1"] <= 0.9
    rows = list(csv.DictReader((search / "table.csv").read_text().splitlines()))
    assert [float(row["k-NN, mean, k = 20, %"]) for row in rows] == measured

    (search / "table.md").unlink()  # as if killed in the second trial
    for name in ("metrics.json", "evaluation/metrics.json", "evaluation/evaluators/knn.json"):
        (search / "1" / name).unlink()
    times = [(search / str(i) / "metrics.json").stat().st_mtime_ns for i in (0, 2)]
    capfd.readouterr()
    run_pretrain(*command)
    assert capfd.readouterr().out.count("already finished") == 2
    assert times == [(search / str(i) / "metrics.json").stat().st_mtime_ns for i in (0, 2)]
    assert yaml.safe_load((search / "optimization_results.yaml").read_text()) == found
    assert rows[1]["k-NN, mean, k = 20, %"] in (search / "table.csv").read_text()


def test_a_failed_trial_does_not_stop_the_search(run_pretrain, photos, tmp_path, capfd):
    with pytest.raises(SystemExit) as ended:
        run_pretrain(
            "-m",
            NAME,
            *SMALL,
            f"data.root={photos}",
            "cropping.scale.0=0.05",
            "cropping.scale.1=0.48",
            "optim.base_lr=choice(-1.0,0.001)",
            "output_dir=search",
        )
    assert ended.value.code == 1
    failed = sorted(path.parent.name for path in (tmp_path / "search").glob("*/failure.json"))
    done = sorted(path.parent.name for path in (tmp_path / "search").glob("*/metrics.json"))
    assert failed
    assert done
    assert sorted([*failed, *done]) == ["0", "1", "2"]
    assert f"failed: {failed[0]} (" in capfd.readouterr().out


def test_the_ranges_include_the_values_of_the_paper():
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        given = ["data=folder", "data.root=/images", "paths.run=run", "output_dir=here"]
        cfg = compose("pretrain", [*given, "experiment=search/scale_and_rate"], return_hydra_config=True)
        plain = compose("pretrain", given)
    assert cfg.hydra.sweeper.direction == "maximize"
    assert "optuna" in cfg.hydra.sweeper._target_
    for key in cfg.hydra.sweeper.params:
        low, high = (
            float(x) for x in cfg.hydra.sweeper.params[key].split("interval(")[1].rstrip(") ").split(",")
        )
        own = plain.optim.base_lr if key == "optim.base_lr" else plain.cropping.scale[int(key[-1])]
        assert low < own < high, key
    del cfg.hydra
    validate.check(cfg, "pretrain")
