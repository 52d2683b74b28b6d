"""Does a student's process do what a notebook does, and no more?"""

import json
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from autograder import outputs
from autograder.limits import Limits
from autograder.sitting import Sitting
from autograder.workers import FreshProcesses, Student, open_workers

QUICK = Limits(cell_seconds=1, call_seconds=0.5, cpu_seconds=10)


@pytest.fixture
def place(nursery):
    with nursery.room() as room:
        yield new_place(room)


def new_place(room):
    place = Path(tempfile.mkdtemp(dir=room))
    (place / "submission").mkdir()
    (place / "home").mkdir()
    return place


def run(nursery, place, *sources, limits=QUICK):
    with Student(nursery, place, limits) as student:
        return student.run_cells([{"id": f"c{k}", "source": source} for k, source in enumerate(sources)])


def kinds(run, cell="c0"):
    return [output["output_type"] for output in run.outputs[cell]]


@pytest.mark.parametrize(("source", "expected"), [
    ("print(1)", ["stream"]),
    ("1", ["execute_result"]),
    ("None", []),
    ("1 / 0", ["error"]),
    ("x = ", ["error"]),
    ("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()", ["display_data"]),
    ("import matplotlib.pyplot as plt\nplt.plot([1, 2]);", ["display_data"]),
    ("import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nplt.close(fig)\nfig", ["execute_result"]),
    ("from IPython.display import HTML, display\ndisplay(HTML('<b>x</b>'))", ["display_data"]),
    ("from IPython.display import display\nh = display(1, display_id=True)\nh.update(2)", ["display_data"]),
    ("from IPython.display import clear_output\nprint(1)\nclear_output(wait=True)\nprint(2)", ["stream"]),
    ("%matplotlib inline\n%time 1 + 1", ["stream", "execute_result"]),
    ("import os; os.write(1, b'raw'); os.write(2, b'raw');", []),
    ("import sys; sys.exit(1)", ["error", "stream"]),
    ("exit()", ["error"]),
    ("input()", ["error"]),
    ("import threading\nthreading.Thread(target=print, args=['hi']).start()", ["stream"]),
    ("while True: pass", ["error"]),
    ("import time; time.sleep(60)", ["error"]),
    ("import signal\nsignal.raise_signal(signal.SIGINT)", ["error"]),
])  # fmt: skip
def test_are_a_cells_outputs_those_of_a_notebook(nursery, place, source, expected):
    found = run(nursery, place, source, "print('next')")
    assert kinds(found) == expected
    assert found.outputs["c1"] == [{"output_type": "stream", "name": "stdout", "text": "next\n"}]
    assert found.ended == ""
    cells = [nbformat.v4.new_code_cell("", outputs=[nbformat.from_dict(o) for o in found.outputs["c0"]])]
    nbformat.validate(nbformat.v4.new_notebook(cells=cells))
    assert "\x1b" not in json.dumps(found.outputs)


def test_is_the_shell_at_home_in_the_private_place(nursery, place):
    # it was opened before the fork, in the warm parent's home
    found = run(
        nursery,
        place,
        """
from pathlib import Path
shell = get_ipython()
homes = [shell.ipython_dir, shell.profile_dir.location, shell.home_dir, Path.home()]
print(all(Path(home).is_relative_to(r"PLACE/home") for home in homes), _dh == [Path.cwd()], list(In), Out)
%cd -q ..
%cd -q -
print(Path.cwd() == Path(r"PLACE/submission"))
%bookmark here
%bookmark -l
""".replace("PLACE", str(place)),
    )
    text = "".join(output["text"] for output in found.outputs["c0"])
    assert kinds(found) == ["stream"]
    assert text.startswith("True True ['', ")
    assert text.splitlines()[0].endswith("] {}")
    assert "True\nCurrent bookmarks:\nhere -> " in text
    assert any((place / "home" / "profile_default" / "db").iterdir())


def test_is_an_interrupt_heard_also_where_the_grading_runs_in_the_background():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    nursery = open_workers()
    try:
        with nursery.room() as room:
            heard = run(nursery, new_place(room), "import signal\nsignal.raise_signal(signal.SIGINT)", "1")
        assert kinds(heard) == ["error"]
    finally:
        signal.signal(signal.SIGINT, before)
        nursery.close()


@pytest.mark.parametrize("forged", [
    None, 3, [None, 3, []], [{"output_type": "execute_result"}],
    [{"output_type": "display_data", "data": {"text/plain": 3}}],
    [{"output_type": "display_data", "data": {"application/javascript": "alert(1)"}}], [{"output_type": "update"}],
])  # fmt: skip
def test_are_forged_outputs_left_out(forged):
    assert outputs.checked(forged) == []


def test_do_outputs_have_nothing_but_their_form():
    sent = [
        {"output_type": "stream", "name": "sneaky", "text": ["x"], "more": 1},
        {"output_type": "error", "ename": 3, "evalue": "e", "traceback": ["t", 3]},
        {"output_type": "display_data", "data": {"image/png": "AA", "text/html": "<img src=x onerror=alert(1)>"},
         "metadata": {"image/png": {"alt": "A curve.", "style": "x"}, "nbgrader": {"grade": True}}},
        {"output_type": "display_data", "data": {"text/html": "<table><th>x</th></table>", "text/plain": "x"}},
        {"output_type": "display_data", "data": {"text/html": "<table><tr><td>x</td></tr></table>", "text/plain": "x"}},
    ]  # fmt: skip
    found = outputs.checked(sent)
    assert found[0] == {"output_type": "stream", "name": "stdout", "text": ""}
    assert found[1] == {"output_type": "error", "ename": "", "evalue": "e", "traceback": ["t", ""]}
    assert found[2]["data"] == {"image/png": "AA"}
    assert found[2]["metadata"] == {"image/png": {"alt": "A curve."}}
    assert [sorted(output["data"]) for output in found[3:]] == [["text/plain"], ["text/html", "text/plain"]]


def test_are_outputs_cut_where_there_is_too_much(nursery, place):
    text, rich = "for k in range(300): print('x' * 10_000)", "from IPython.display import HTML\nHTML('<b>' * 2_000_000)"
    found = run(
        nursery, place, text, rich, "import sys\nfor k in range(2000):\n    print(k); print(k, file=sys.stderr)"
    )
    assert len(json.dumps(found.outputs)) < 1_100_000
    assert "cut off here" in found.outputs["c0"][-1]["text"]
    assert "cut off here" in found.outputs["c1"][-1]["text"]


def test_are_outputs_of_all_cells_cut_by_the_grader(nursery, place, monkeypatch):
    monkeypatch.setattr("autograder.workers.MOST_IN_ALL", 5_000)
    forge = """
import autograder.worker
error = {"output_type": "error", "ename": "x" * 2_000, "evalue": "", "traceback": []}
autograder.worker._run = lambda *_: ([error], 1, False)
"""
    found = run(nursery, place, forge, "1", "2", "3")
    assert sum(outputs.size(one) for kept in found.outputs.values() for one in kept) <= 5_000
    assert found.outputs["c1"] != []


def test_is_nothing_left_alive(nursery, place):
    word = f"600.{time.time_ns()}"  # seconds, which nobody else asks for
    found = run(nursery, place, f"""
import os, subprocess, time
first = subprocess.Popen(['sleep', '{word}'])
second = subprocess.Popen(['sleep', '{word}'], start_new_session=True)
ready, told = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(told, str(os.getpid()).encode())
        os.execvp('sleep', ['sleep', '{word}'])
    os._exit(0)
third = int(os.read(ready, 20))
time.sleep(0.3)
print(first.poll(), second.poll(), os.kill(third, 0))
""")  # fmt: skip
    assert found.outputs["c0"][0]["text"] == "None None None\n"
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in lines if b"sleep" in line and word.encode() in line]


DRAWN = "numpy.random.rand(), __import__('random').random(), __import__('torch').rand(1).item()"


def test_does_a_process_start_clean(nursery, place, monkeypatch):
    monkeypatch.setenv("INSTRUCTORS_KEY", "secret")
    run(nursery, place, "import labkit, numpy\nlabkit.spoiled = numpy.spoiled = True")
    found = run(nursery, place, "import labkit, numpy, os\n"
                "print(hasattr(labkit, 'spoiled'), hasattr(numpy, 'spoiled'), 'INSTRUCTORS_KEY' in os.environ)\n"
                "print(len(os.listdir('/proc/self/fd')) < 8, os.getcwd().endswith('submission'))\n"
                f"print({DRAWN})")  # fmt: skip
    lines = found.outputs["c0"][0]["text"].splitlines()
    assert lines[:2] == ["False False False", "True True"]
    again = run(nursery, place, f"import numpy\nprint({DRAWN})")
    assert again.outputs["c0"][0]["text"].splitlines() == lines[2:]


@pytest.mark.slow
def test_is_a_nursery_that_was_killed_replaced():
    nursery = open_workers()
    try:
        nursery.process.kill()
        with nursery.room() as room:
            assert kinds(run(nursery, new_place(room), "print(1)")) == ["stream"]
    finally:
        nursery.close()


@pytest.mark.slow
def test_does_a_fresh_process_do_the_same_as_a_forked_one(nursery, place):
    fresh = FreshProcesses()
    patient = replace(QUICK, cpu_seconds=120)  # it loads torch in the student's time
    sources = ["print(1)", "1 / 0", "import torch; torch.rand(2)"]
    assert run(fresh, place, *sources, limits=patient) == run(nursery, place, *sources)
    assert run(fresh, place, "import os; os._exit(3)", limits=patient).ended.startswith(
        "the notebook ended its own process (exit code 3)"
    )


@pytest.mark.parametrize(("source", "words"), [
    ("import os; os._exit(7)", "exit code 7"),
    ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    ("import signal\nsignal.signal(signal.SIGPROF, signal.SIG_IGN)\nwhile True: pass", "processor time"),
])  # fmt: skip
def test_is_it_said_how_a_process_ended(nursery, place, source, words):
    found = run(nursery, place, "print(1)", source, "print(2)", limits=Limits(cell_seconds=0.5, cpu_seconds=1))
    assert words in found.ended
    assert "while the cell c1 ran" in found.ended
    assert set(found.outputs) == {"c0"}


@pytest.mark.parametrize(("source", "expected"), [
    ("import time\nwhile time.process_time() < started + 1: pass", []),
    ("import time\ntime.sleep(9)", ["error"]),
], ids=["computes", "waits"])  # fmt: skip
def test_does_wall_time_end_what_waits_and_never_what_computes(nursery, place, source, expected):
    """The wall is over long before the processor time, as on a machine that gives it but a share."""
    limits = Limits(cell_seconds=5, patience=0.05)
    found = run(nursery, place, "import time\nstarted = time.process_time()", source, limits=limits)
    assert kinds(found, "c1") == expected


def test_is_a_cell_that_ends_the_process_left_out_the_next_time(nursery, place):
    places = []

    def another_place():
        places.append(new_place(place.parent))
        return places[-1]

    cells = [{"id": "a", "source": "x = 1"}, {"id": "b", "source": "import os; os._exit(0)"},
             {"id": "c", "source": "def f():\n    os._exit(0)\nimport os\ny = 2"}]  # fmt: skip
    with Sitting(nursery, another_place, cells, QUICK) as sitting:
        assert list(sitting.left_out) == ["b"]
        assert sitting.ask({"do": "value", "name": "y"}) == {"value": 2}
        assert "did not come back" in sitting.ask({"do": "call", "function": "f", "arguments": []})["unfit"]
        # in a third process, in which f is not called
        assert sitting.ask({"do": "value", "name": "x"}) == {"value": 1}
        assert "not called again" in sitting.ask({"do": "call", "function": "f", "arguments": []})["unfit"]
    assert len(places) == 3


def test_does_a_submission_with_its_recording_cost_no_training(nursery, place, short):
    from labkit.training import train

    recording = train(short, save=place / "submission" / "run.safetensors", device="cpu", progress=False)
    found = run(nursery, place, f"""
import labkit
import labkit.training
labkit.training._Run.to_the_end = None
from labkit.experiments import Experiment
e = Experiment.from_json({short.to_json()!r})
print(labkit.train(e, save='run.safetensors').digest)
""")  # fmt: skip
    assert found.outputs["c0"][0]["text"].strip() == recording.digest
