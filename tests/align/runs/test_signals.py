import os
import signal

import pytest

from align.runs import signals as stopping
from align.runs.signals import Stop, Stopped


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_work_at_once_with_its_exit_code(number, code):
    with pytest.raises(Stopped) as raised, Stop().handled():
        send(number)
        raise AssertionError("went on")
    assert raised.value.exit_code == code
    assert str(raised.value) == number.name


def test_a_deferred_signal_is_noted_and_heeded_where_the_work_asks(capfd):
    stop, done = Stop(), []
    with pytest.raises(Stopped), stop.handled(), stop.deferred():
        send(signal.SIGTERM)
        assert stop.asked
        done.append("the step was finished")
        stop.now()
    assert done
    assert capfd.readouterr().err == "SIGTERM: saves after this step; again: stops at once\n"


def test_a_deferred_signal_is_heeded_at_the_latest_when_the_work_is_done():
    stop = Stop()
    with pytest.raises(Stopped), stop.handled():
        with stop.deferred():
            send(signal.SIGINT)
        raise AssertionError("went on")


def test_the_same_request_by_two_ways_is_one():
    """Ctrl-C reaches a child from the terminal, and again from the parent that passes it on."""
    stop = Stop()
    with stop.handled():
        stop._deferred = True
        send(signal.SIGINT)
        send(signal.SIGINT)
    assert stop.asked


def test_a_second_signal_ends_at_once_and_a_third_ends_the_process(monkeypatch):
    monkeypatch.setattr(stopping, "SAME_REQUEST_SECONDS", 0.0)
    stop = Stop()
    with pytest.raises(Stopped), stop.handled(), stop.deferred():
        send(signal.SIGTERM)
        with pytest.raises(Stopped):
            send(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        stop.now()


def test_handlers_are_put_back_and_a_request_does_not_outlive_them():
    before, stop = signal.getsignal(signal.SIGTERM), Stop()
    with pytest.raises(Stopped), stop.handled():
        send(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    with stop.handled():
        assert not stop.asked
