"""The first signal is noted, the second one raises; afterwards all is as before."""

import signal
import threading

import pytest

from experiments.interrupts import Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_is_noted_second_raises(number, capfd):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        assert not interrupts.asked
        signal.raise_signal(number)
        assert interrupts.asked
        assert "Stopping after this step" in capfd.readouterr().err
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


@pytest.fixture
def python_handler():
    """Python's own handler of Ctrl-C, which is not there if the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_nothing_is_noted(python_handler):
    seen = []

    def work():
        with Interrupts() as interrupts:
            seen.append(interrupts.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
