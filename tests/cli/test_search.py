"""A search by optuna: it gets the number of the table, outlives a failure, and goes on where it was."""

import csv
import json

import pytest
import yaml
from hydra import compose, initialize_config_dir

from cim_lightning.config import validate
from cim_lightning.config.compose import CONF, register_resolvers

# optuna 2.10, the last that Hydra's sweeper takes, asks SQLAlchemy in the old way
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


def test_three_trials_find_the_best_of_three_and_go_on_where_they_were(run_pretrain, photos, tmp_path, capfd):
    command = ["-m", NAME, *SMALL, f"data.root={photos}"]
    run_pretrain(*command)
    (search,) = (tmp_path / "outputs").glob("*/*")
    found = yaml.safe_load((search / "optimization_results.yaml").read_text())
    measured = [
        100 * json.loads((search / str(i) / "evaluation" / "metrics.json").read_text())["knn/mean_k20"]
        for i in range(3)
    ]
    assert found["best_value"] == max(measured)
    best = yaml.safe_load((search / str(measured.index(max(measured))) / "config.yaml").read_text())
    asked = found["best_params"]
    assert asked.keys() == {"cropping.scale.0", "cropping.scale.1", "optim.base_lr"}
    assert [asked["cropping.scale.0"], asked["cropping.scale.1"]] == best["cropping"]["scale"]
    assert asked["optim.base_lr"] == best["optim"]["base_lr"]
    assert 0.02 <= asked["cropping.scale.0"] <= 0.2
    assert 0.25 <= asked["cropping.scale.1"] <= 0.9
    rows = list(csv.DictReader((search / "table.csv").read_text().splitlines()))
    assert [float(row["k-NN, %"]) for row in rows] == measured

    (search / "table.md").unlink()  # as if it had been killed in its second trial
    for name in ("metrics.json", "evaluation/metrics.json", "evaluation/parts/knn.json"):
        (search / "1" / name).unlink()
    kept = [(search / str(i) / "metrics.json").stat().st_mtime_ns for i in (0, 2)]
    capfd.readouterr()
    run_pretrain(*command)
    assert capfd.readouterr().out.count("holds this run, finished") == 2
    assert kept == [(search / str(i) / "metrics.json").stat().st_mtime_ns for i in (0, 2)]
    assert yaml.safe_load((search / "optimization_results.yaml").read_text()) == found
    assert rows[1]["k-NN, %"] in (search / "table.csv").read_text()


def test_a_trial_that_fails_ends_no_search(run_pretrain, photos, tmp_path, capfd):
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


def test_its_ranges_hold_the_papers_own():
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
