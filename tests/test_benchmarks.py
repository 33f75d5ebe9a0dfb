"""The ledger of benchmarks, its page, and every script at a tiny size."""

import importlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
SLOW = {"bench_gpu", "bench_cropping", "bench_step"}  # many networks, or many variants
SCRIPTS = sorted(path.stem for path in EXPERIMENTS.glob("bench_*.py"))


@pytest.fixture(autouse=True)
def path_of_experiments(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))


@pytest.fixture
def bench():
    names = ("interleave", "ledger", "table", "command_line")
    return [importlib.import_module(f"bench.{name}") for name in names]


def timing(interleave, *cpu):
    return interleave.Timing(interleave.Samples(cpu), interleave.Samples(tuple(2 * x for x in cpu)))


def test_every_variant_runs_in_every_round(bench):
    interleave = bench[0]
    calls = []
    variants = {name: lambda name=name: calls.append(name) for name in "abc"}
    timings = interleave.interleave(variants, rounds=4, repeats=2, warmup=1)
    assert calls[:3] == ["a", "b", "c"]
    rounds = [calls[i : i + 6] for i in range(3, len(calls), 6)]
    assert [sorted(calls) for calls in rounds] == [list("aabbcc")] * 4
    assert all(calls[0::2] == calls[1::2] for calls in rounds)  # the repeats of a variant are one sample
    assert len({tuple(calls) for calls in rounds}) > 1  # the order differs between rounds
    assert {name: len(timing.wall.values) for name, timing in timings.items()} == dict.fromkeys("abc", 4)


def test_times_are_milliseconds_per_call(bench, monkeypatch):
    interleave = bench[0]
    clock = iter(range(100))
    monkeypatch.setattr(interleave.time, "process_time", lambda: float(next(clock)))  # 1 s between readings
    monkeypatch.setattr(interleave.time, "perf_counter", lambda: 0.0)
    found = interleave.interleave({"a": lambda: None}, rounds=3, repeats=4)["a"]
    assert found == interleave.Timing(interleave.Samples((250,) * 3), interleave.Samples((0,) * 3))


def test_median_quartiles_and_speedup_by_hand(bench):
    interleave = bench[0]
    samples = interleave.Samples((4.0, 1.0, 2.0, 3.0, 5.0))
    assert (samples.median, samples.quartiles) == (3, (2, 4))
    assert interleave.Samples((7.0,)).quartiles == (7, 7)
    slow, fast = timing(interleave, 2, 8, 6), timing(interleave, 1, 2, 6)
    assert interleave.speedup(slow, fast) == 2  # the median of 2, 4 and 1


def test_a_result_is_written_validated_and_shown(bench, tmp_path):
    interleave, ledger, table, _ = bench
    slow = ledger.Entry("read", "Pillow", timing(interleave, 40, 40), count=4, unit="image")
    fast = ledger.Entry(
        "read", "ours", timing(interleave, 40, 40), 8, "image", "Pillow", 1.5, values={"MB": 1.23456}
    )
    claims = [
        ledger.Claim("a", 2.0, "at least", 1.7, "x", predicted=2.5),
        ledger.Claim("b", 5.0, "at most", 4.0, "ms"),
        ledger.Claim("c", None, "at most", 1.0),
    ]
    report = ledger.Report([slow, fast], claims, ["Less than predicted: reason."])
    path = ledger.write("reading", report, "Reads images.", "python x.py", tmp_path)
    content = json.loads(path.read_text())
    entry = content["entries"][1]
    assert (entry["cpu"]["median"], entry["wall"]["median"], entry["ratio"]) == (5, 10, 2)
    assert [claim["holds"] for claim in content["claims"]] == [True, False, None]
    text = table.page(tmp_path)
    assert "| read | CPU, ms per image |" in text
    assert "| ours | 5 (5 to 5) | 10 (10 to 10) | 200 | 2.00x | Pillow | 1.5 | 1.23 |" in text
    assert "| a | at least 1.7 x | 2 x | 2.5 x | holds |" in text
    assert "| b | at most 4 ms | 5 ms |  | **missed** |" in text
    assert "| c | at most 1 |  |  | not measured |" in text
    assert "Less than predicted: reason." in text


def test_an_invalid_result_is_not_written(bench, tmp_path):
    interleave, ledger, *_ = bench
    entry = ledger.Entry("read", "ours", timing(interleave, 1, 2))
    with pytest.raises(ValueError, match="no timing of the baseline Pillow"):
        ledger.write("reading", ledger.Report([replace(entry, baseline="Pillow")]), folder=tmp_path)
    for bad in (
        replace(entry, count=0.5),
        replace(entry, values={"MB": "many"}),
        replace(entry, clock="gpu"),
    ):
        with pytest.raises((jsonschema.ValidationError, ValueError, AttributeError)):
            ledger.write("reading", ledger.Report([bad]), folder=tmp_path)
    with pytest.raises(jsonschema.ValidationError):
        ledger.write("reading", ledger.Report([]), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("bench/results/*.json")), ids=lambda p: p.stem)
def test_results_are_valid(bench, path):
    _, ledger, *_ = bench
    assert ledger.read(path)["bench"] == path.stem
    assert (EXPERIMENTS / f"bench_{path.stem}.py").exists()


def test_the_page_is_current(bench):
    table = bench[2]
    assert table.FILE.read_text() == table.page(), "run `make docs`"


@pytest.mark.parametrize("name", [pytest.param(s, marks=[pytest.mark.slow] * (s in SLOW)) for s in SCRIPTS])
def test_every_script_runs_at_a_tiny_size(bench, name, tmp_path):
    _, ledger, _, command_line = bench
    script = importlib.import_module(name)
    add_arguments = getattr(script, "add_arguments", None)
    arguments = ["--smoke", "--results", str(tmp_path)]
    name = name.removeprefix("bench_")
    command_line.main(name, script.measure, script.__doc__, add_arguments, arguments)
    assert ledger.read(tmp_path / f"{name}.json")["bench"] == name


def test_the_busy_share_of_overlapping_kernels_by_hand(bench):
    busy = importlib.import_module("bench.busy")
    # 0..2 and 1..3 overlap, 3..4 is idle, 4..5 lies inside 4..8.
    assert busy.busy_share([(4, 8), (0, 2), (1, 3), (4, 5)]) == pytest.approx(7 / 8)
    assert busy.busy_share([(2, 5)]) == 1


def test_a_part_that_takes_too_long_or_fails_leaves_a_note(bench):
    _, ledger, *_ = bench
    time_limit = importlib.import_module("bench.time_limit")
    entry = ledger.Entry("a", "b", values={"x": 1})

    def fail():
        raise ValueError("no memory\nmore")

    parts = {
        "good": lambda: ledger.Report([entry], notes=["n"]),
        "slow": lambda: time.sleep(60),
        "dead": lambda: os._exit(1),
        "bad": fail,
    }
    limits = {"good": 30, "slow": 0.2, "dead": 30, "bad": 30}
    report = ledger.merge([time_limit.run_part(name, parts[name], limits[name]) for name in parts])
    assert report.entries == [entry]
    assert report.notes == [
        "n",
        "slow: stopped after 0 s.",
        "dead: failed: the process died",
        "bad: failed: ValueError: no memory",
    ]


def test_the_claims_of_a_gpu_by_hand(bench):
    interleave, ledger, *_ = bench
    claims = importlib.import_module("bench.gpu_claims").claims

    def entry(stage, variant, ms, count, **values):
        samples = interleave.Samples((float(ms),))
        return ledger.Entry(stage, variant, interleave.Timing(samples, samples), count, values=values)

    step = "training step"
    entries = [
        entry("matrix product", "x", 1, 1, **{"TFLOP/s": 800.0}),
        entry("cropping", "as in training", 1, 512),  # half a millisecond for 256 views
        entry(step, "CIM, ViT-B/16, batch 256", 64, 256, **{"TFLOP/s": 300.0}),
        entry(step, "CIM, ViT-B/16, batch 512", 102.4, 512, **{"TFLOP/s": 400.0}),  # the best batch: 5000/s
        entry(step, "CIM, ViT-S/16, batch 256", 25.6, 256, **{"TFLOP/s": 300.0}),  # 10,000/s
        entry(step, "per exemplar, fp32, ViT-B/16", 128, 64, **{"TFLOP/s": 50.0}),  # 500/s
        entry("training from archives", "CIM, ViT-S/16", 32, 256, **{"GPU idle, %": 1.0}),  # 8000/s
    ]
    measured = {claim.text: claim.measured for claim in claims(entries)}
    expected = [0.5, 100 * 5000 / 512_000, 100 * 10_000 / 512_000, 50, 100 * 0.03 * 8000 / 800, 1, 10]
    assert list(measured.values())[:7] == pytest.approx(expected)
    assert measured["300 epochs of ImageNet, ViT-B/16"] == pytest.approx(300 * 1_281_167 / 5000 / 3600)
    assert {claim.holds for claim in claims([])} == {None}
