"""Does an interrupt wait until what belongs together is done?"""

import os
import signal
import threading

import pytest

from labkit.interrupts import Interrupted, undisturbed


@pytest.fixture(autouse=True)
def interruptible():
    """As in a terminal: a shell starts what runs in its background with interrupts ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_waits_for_the_end_and_is_raised_there():
    done = []

    def work():
        with undisturbed():
            interrupt()
            done.append("the rest")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["the rest"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_inner_of_two_leaves_it_to_the_outer():
    done = []

    def work():
        with undisturbed():
            with undisturbed():
                interrupt()
            done.append("the rest")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["the rest"]


def test_a_dropped_interrupt_is_forgotten():
    with undisturbed(drop=True):
        interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_it_the_rest_is_lost():
    done = []

    def work():
        interrupt()
        done.append("the rest")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == []


def test_an_error_inside_is_raised_and_the_handler_is_put_back():
    with pytest.raises(ValueError, match="inside"), undisturbed():
        raise ValueError("inside")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_thread_goes_through():
    done = []

    def inside():
        with undisturbed():
            done.append("inside")

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert done == ["inside"]


def test_ipython_shows_the_sentence_and_no_stack():
    assert Interrupted("interrupted after 3 of 9 iterations: x")._render_traceback_() == [
        "Interrupted after 3 of 9 iterations: x"
    ]
