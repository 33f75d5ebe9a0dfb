"""Signals: raised at once, deferred to the end of a step, or at a wait for data."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from cim_lightning import stop_signals
from cim_lightning.stop_signals import SIGNALS, Stopped


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    assert stop_signals.install()
    yield
    stop_signals.uninstall()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, as the one item of a list."""
    now = [100.0]
    monkeypatch.setattr(stop_signals.time, "monotonic", lambda: now[0])
    return now


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0)  # Python calls the handler between two instructions


@pytest.mark.parametrize("number", SIGNALS)
def test_each_signal_ends_the_process_with_128_plus_its_number(number):
    with pytest.raises(Stopped) as stopped:
        send(number)
    assert stopped.value.code == 128 + number
    assert stop_signals.received() == number


def test_a_deferred_signal_is_reported_and_waits(capfd):
    with stop_signals.deferred("the end of the save"):
        send(signal.SIGTERM)
    assert capfd.readouterr().err == "\nSIGTERM: stops at the end of the save; a second signal stops now\n"
    with pytest.raises(Stopped) as stopped:
        stop_signals.raise_if_received()
    assert stopped.value.code == 143


def test_a_second_signal_ends_a_deferral_unless_it_is_a_copy_of_the_first(clock):
    stop_signals.defer("the end of this step")
    send(signal.SIGTERM)
    clock[0] += 0.9
    send(signal.SIGTERM)  # of `timeout`, which signals the process and its group
    clock[0] += 0.2
    with pytest.raises(Stopped) as stopped:
        send(signal.SIGINT)
    assert stopped.value.number == signal.SIGTERM  # the first one says why


@pytest.mark.parametrize(("end", "waits_end"), [(None, False), ("the end of this step", True)])
def test_a_wait_for_data_ends_at_once_if_nothing_is_half_done(end, waits_end):
    stop_signals.defer(end, waits_end)
    with pytest.raises(Stopped), stop_signals.interruptible():
        send(signal.SIGUSR1)


def test_a_signal_from_before_the_wait_ends_it_too():
    stop_signals.defer("the end of this step")
    send(signal.SIGTERM)
    stop_signals.defer("the end of this step", waits_end=True)
    with pytest.raises(Stopped), stop_signals.interruptible():
        pytest.fail("the wait has begun")


@pytest.mark.parametrize("before", [False, True])
def test_inside_a_step_a_wait_for_data_ends_after_a_time(before, monkeypatch):
    monkeypatch.setattr(stop_signals, "GRACE", 0.05)
    monkeypatch.setattr(stop_signals, "REPEAT", 0.01)
    stop_signals.defer("the end of this step")
    if before:
        send(signal.SIGTERM)
    else:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Stopped), stop_signals.interruptible():
        os.read(os.pipe()[0], 1)  # a read that does not end


def test_after_a_wait_the_step_is_not_interrupted(monkeypatch):
    monkeypatch.setattr(stop_signals, "GRACE", 0.05)
    monkeypatch.setattr(stop_signals, "REPEAT", 0.01)
    stop_signals.defer("the end of this step")
    with stop_signals.interruptible():
        send(signal.SIGTERM)
    time.sleep(0.1)


def test_ignored_signals_stay_ignored_and_handlers_of_launchers_stay():
    stop_signals.uninstall()
    handlers = {signal.SIGHUP: signal.SIG_IGN, signal.SIGUSR2: lambda number, frame: None}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        stop_signals.install()
        assert {number: signal.getsignal(number) for number in handlers} == handlers
        send(signal.SIGHUP)
        send(signal.SIGUSR2)
        with pytest.raises(Stopped):
            send(signal.SIGTERM)
        stop_signals.uninstall()
        assert {number: signal.getsignal(number) for number in handlers} == handlers
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_handlers_are_restored_and_the_signal_is_forgotten():
    assert not stop_signals.install()  # again
    with pytest.raises(Stopped):
        send(signal.SIGTERM)
    stop_signals.uninstall()
    assert stop_signals.received() is None
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_other_threads_and_forked_processes_are_left_alone():
    found: list[bool] = []
    stop_signals.uninstall()
    thread = threading.Thread(target=lambda: found.append(stop_signals.install()))
    thread.start()
    thread.join()
    assert found == [False]
    stop_signals.install()
    child = os.fork()
    if not child:  # before it sets its own handlers
        send(signal.SIGTERM)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_the_reason_is_printed_once_by_the_first_process(capsys):
    stop_signals.set_outcome("saved at step 3; run the same command to resume")
    for _ in range(2):
        stop_signals.report("cim-pretrain", Stopped(signal.SIGINT))
    line = "cim-pretrain: stopped by Ctrl-C; saved at step 3; run the same command to resume\n"
    assert capsys.readouterr().err == line
    stop_signals.uninstall()
    stop_signals.install(speaks=False)
    stop_signals.report("cim-pretrain", Stopped(signal.SIGINT))
    assert capsys.readouterr().err == ""
