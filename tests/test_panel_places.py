"""Is a panel heard between two cells, and does its output say something where no kernel lives?"""

import signal
import threading
from types import SimpleNamespace

import pytest

from labkit import desk
from labkit.panels import panel as panels
from labkit.panels.panel import Panel, in_turn


@pytest.fixture
def loop(monkeypatch):
    """A kernel's main loop, which runs what it was given when the test says so."""
    waiting = []

    def turn():
        while waiting:
            call, *arguments = waiting.pop(0)
            call(*arguments)

    kernel = SimpleNamespace(io_loop=SimpleNamespace(add_callback=lambda *call: waiting.append(call)))
    monkeypatch.setattr(panels, "get_ipython", lambda: SimpleNamespace(kernel=kernel))
    return SimpleNamespace(waiting=waiting, turn=turn)


def told_beside(panel, content):
    """As JupyterLab 4.4 and ipykernel 7 bring it: in a thread beside the cells."""
    thread = threading.Thread(target=panel._handle_custom_msg, args=(content, []))
    thread.start()
    thread.join()


def test_what_arrives_in_a_thread_of_its_own_waits_for_its_turn(loop):
    heard, panel = [], Panel()
    panel.on_msg(lambda _, content, __: heard.append((content, threading.current_thread())))
    told_beside(panel, {"ask": 1})
    assert heard == []
    loop.turn()
    assert heard == [({"ask": 1}, threading.main_thread())]


def test_what_arrives_in_the_thread_of_the_cells_is_heard_at_once(loop):
    heard, panel = [], Panel()
    panel.on_msg(lambda _, content, __: heard.append(content))
    panel._handle_custom_msg({"ask": 1}, [])
    assert (heard, loop.waiting) == ([{"ask": 1}], [])


def test_an_interrupt_reaches_the_answer_and_nothing_after_it(loop):
    """A kernel that runs no cell ignores SIGINT: a training that a panel began could not be stopped."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    met = []

    def answer():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            met.append("interrupted")
        raise KeyboardInterrupt  # must not end the kernel's loop

    try:
        thread = threading.Thread(target=in_turn, args=(answer,))
        thread.start()
        thread.join()
        loop.turn()
        assert met == ["interrupted"]
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("session", "cell", "looks"),
    [
        ("lab.ipynb", "5f0c", True),
        ("", "5f0c", False),
        ("lab.ipynb", None, False),
        ("lab.ipynb", "vscode-notebook-cell:/home/ada/lab.ipynb#W1", False),
    ],
)
def test_only_jupyterlab_gets_a_place_to_draw_in(monkeypatch, session, cell, looks):
    """A saved notebook says of a widget's output that its model was not found; other front ends need one."""
    parent = {"metadata": {} if cell is None else {"cellId": cell}}
    shell = SimpleNamespace(get_parent=lambda: parent)
    monkeypatch.setattr(desk, "sys", SimpleNamespace(modules={"IPython": SimpleNamespace(get_ipython=lambda: shell)}))
    monkeypatch.setenv("JPY_SESSION_NAME", session)
    panel = Panel()
    bundle = panel.bundle("It is over.")
    assert bundle["text/plain"] == "It is over."
    assert ("text/html" in bundle) == looks
    assert ("application/vnd.jupyter.widget-view+json" in bundle) != looks
    if looks:
        assert bundle["text/html"] == f'<div class="{panel.place}">It is over.</div>'
