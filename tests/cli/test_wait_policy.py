"""The wait policy of torch's threads, with a clock and a /proc/stat that the test controls."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cim_lightning.cli import wait_policy
from cim_lightning.cli.wait_policy import CHOSEN_BY_USER, OtherLoad, set_wait_policy


class Machine:
    """Seconds on the clock, of all cores while not idle, and of this process; files and modules."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path):
        self.stat, self.clock, self.own = folder / "stat", 100.0, 5.0
        self.environ: dict[str, str] = {}
        self.modules: dict[str, Any] = {}
        self.busy(0)
        monkeypatch.setattr(wait_policy, "STAT", self.stat)
        clocks = {"monotonic": lambda: self.clock, "process_time": lambda: self.own}
        monkeypatch.setattr(wait_policy, "time", SimpleNamespace(**clocks))
        affinity = {"sched_getaffinity": lambda process: {1, 3}}
        system = SimpleNamespace(environ=self.environ, sysconf=lambda name: 100, **affinity)
        monkeypatch.setattr(wait_policy, "os", system)
        monkeypatch.setattr(wait_policy, "sys", SimpleNamespace(modules=self.modules))

    def busy(self, ticks: int, elsewhere: int = 0) -> None:
        """Write a /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal."""
        first = f"cpu1 {600 + ticks // 2} 70 30 9999 9999 5 5 9999 0 0"
        second = f"cpu3 {400 + ticks - ticks // 2} 0 0 9999 9999 0 0 9999 0 0"
        others = f"cpu0 {1 + elsewhere} 2 3 9 9 0 0 9 0 0\ncpu10 {elsewhere} 2 3 9 9 0 0 9 0 0"
        total = f"cpu  {1001 + ticks + 2 * elsewhere} 74 36 9999 9999 5 5 9999 0 0"
        self.stat.write_text(f"{total}\n{others}\n{first}\n{second}\nintr 5\n")

    def policy(self, ticks: int, own: float) -> str | None:
        """Return the policy after one second in which all cores were busy for some ticks of 10 ms."""
        load = OtherLoad()
        self.busy(ticks)
        self.clock, self.own = self.clock + 1, self.own + own
        set_wait_policy(load)
        return self.environ.get("OMP_WAIT_POLICY")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


@pytest.mark.parametrize(("ticks", "policy"), [(100, None), (140, None), (160, "passive"), (200, "passive")])
def test_threads_sleep_if_other_processes_use_more_than_half_a_core(machine, ticks, policy):
    assert machine.policy(ticks, own=1.0) == policy


def test_the_load_of_cores_that_this_process_cannot_use_does_not_count(machine):
    load = OtherLoad()
    machine.busy(140, elsewhere=100)
    machine.clock, machine.own = machine.clock + 1, machine.own + 1
    assert load.cores() == pytest.approx(0.4)


@pytest.mark.parametrize("name", CHOSEN_BY_USER)
def test_a_choice_of_the_user_stays(machine, name):
    machine.environ[name] = "active"
    machine.policy(200, own=0.0)
    assert machine.environ == {name: "active"}


def test_nothing_is_set_when_it_is_too_late_or_the_load_is_unknown(machine):
    machine.modules["torch"] = object()
    assert machine.policy(200, own=0.0) is None
    del machine.modules["torch"]
    machine.stat.unlink()
    load = OtherLoad()
    assert load.cores() == 0.0
    machine.stat.write_text("cpu1 600 70 30\n")  # another format
    assert OtherLoad().cores() == 0.0
