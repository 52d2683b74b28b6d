"""Does only plain data cross between the grader and a student's process?"""

import base64
import json
import math
import os
import socket
import struct
import threading
import types
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

import autograder
from autograder import answering, answers, channel
from autograder.answers import AnswerError, Network, Tensor, decode, encode
from autograder.cells import CODE_STUB
from autograder.channel import Channel, ChannelError, Gone, TooLate
from autograder.checks import Failed, Missing
from autograder.evidence import AnsweredEvidence
from autograder.questions.shared import keyed, kind_of, near
from autograder.selfcheck import evidence as live_evidence


def crossed(value):
    """What arrives on the other side."""
    return decode(answers.from_bytes(answers.to_bytes(encode(value))))


# Values

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(plain_values)
def test_do_plain_values_survive(value):
    assert repr(crossed(value)) == repr(value)


@given(hnp.arrays(
    st.sampled_from(["?", "i1", "<i8", ">i4", "u2", "f2", "<f4", ">f8"]), hnp.array_shapes(min_dims=0, min_side=0)
))  # fmt: skip
def test_do_arrays_survive_with_nan_and_infinity(array):
    found = crossed(array)
    np.testing.assert_array_equal(found, array)
    assert (found.shape, found.dtype) == (array.shape, array.dtype.newbyteorder("="))
    assert found.flags.writeable


def test_do_descriptions_survive():
    assert crossed(Network((4, 3), "tanh", seed=7)) == Network((4, 3), "tanh", seed=7)
    np.testing.assert_array_equal(crossed([Tensor(np.arange(3.0))])[0].values, np.arange(3.0))


text_of = base64.b64encode(bytes(8)).decode()


@pytest.mark.parametrize("content", [
    {},
    {"array": 1, "tuple": []},
    {"pickle": "gASVAAAA"},
    {"tuple": 3},
    {"dict": [[1, 2, 3]]},
    {"dict": [[[1], 2]]},
    {"array": None},
    {"array": {"dtype": "O", "shape": [1], "base64": text_of}},
    {"array": {"dtype": "<f8,<f8", "shape": [1], "base64": text_of}},
    {"array": {"dtype": "V8", "shape": [1], "base64": text_of}},
    {"array": {"dtype": "c8", "shape": [1], "base64": text_of}},
    {"array": {"dtype": "nonsense", "shape": [1], "base64": text_of}},
    {"array": {"dtype": "<f8", "shape": [2], "base64": text_of}},
    {"array": {"dtype": "<f8", "shape": [-1], "base64": text_of}},
    {"array": {"dtype": "<f8", "shape": [1.0], "base64": text_of}},
    {"array": {"dtype": "<f8", "shape": [0, 10**30], "base64": ""}},
    {"array": {"dtype": "<f8", "shape": [1] * 40, "base64": text_of}},
    {"array": {"dtype": "<f8", "shape": [1], "base64": "!!" + text_of}},
    {"network": {"widths": 3}},
    {"network": {"widths": [2, 2], "code": "x"}},
])  # fmt: skip
def test_is_what_is_no_plain_value_refused(content):
    with pytest.raises(AnswerError):
        decode(content)


def test_are_depth_and_number_of_parts_limited():
    deep = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(AnswerError, match="deep"):
        decode(deep)
    with pytest.raises(AnswerError, match="parts"):
        decode([0] * (answers.MOST_ITEMS + 1))


@pytest.mark.parametrize("value", [object(), np.array([object()]), np.array(["a"]), np.array([1j]), {1, 2}])
def test_does_nothing_but_plain_values_leave(value):
    with pytest.raises(AnswerError):
        encode(value)


# The student's side


class Hostile:
    def __getattribute__(self, name):
        raise SystemExit

    def __eq__(self, other):
        return True

    def __repr__(self):
        raise SystemExit


class Loud(int):
    def __repr__(self):
        return "100"

    def __int__(self):
        return 100


@pytest.mark.parametrize(("value", "expected"), [
    (torch.tensor([1.0, math.nan], requires_grad=True), np.array([1.0, math.nan], np.float32)),
    (torch.tensor(2, dtype=torch.bfloat16), np.array(2, np.float32)),
    (torch.eye(2).to_sparse(), np.eye(2, dtype=np.float32)),
    (np.float32(0.5), 0.5),
    (np.bool_(True), True),
    (Loud(3), 3),
    ({"a": (1, [None, "x"])}, {"a": (1, [None, "x"])}),
    (namedtuple("P", "x y")(1, 2), (1, 2)),
    ({("a", 1): 2}, {"tuple": 2}),
    (object(), {"kind": "object", "class": "object"}),
    (np.array([object()]), {"kind": "object", "class": "ndarray"}),
])  # fmt: skip
def test_is_a_students_value_made_plain(value, expected):
    np.testing.assert_equal(crossed(answering.plain(value)), expected)


@pytest.mark.parametrize("content", [
    {"array": {"dtype": "(" + "1," * 200_000 + ")f8", "shape": [], "base64": ""}},
    {"array": {"dtype": "(" + "9" * 5000 + ",)f8", "shape": [], "base64": ""}},
    {"array": {"dtype": "f8,f8", "shape": [0], "base64": ""}},
    {"array": {"dtype": ["<f8"], "shape": [0], "base64": ""}},
    {"array": {"dtype": "<f8", "shape": [0, 2**26, 2**26, 2**26, 2**26], "base64": ""}},
    {"network": {"widths": [math.inf]}},
    {"network": {"widths": [math.nan]}},
])  # fmt: skip
def test_is_what_numpy_would_take_long_over_or_cannot_hold_refused(content, monkeypatch):
    """Of a text for a kind of numbers numpy makes a program that it evaluates: it is not given any but its own."""
    real = np.dtype
    monkeypatch.setattr(answers, "np", types.SimpleNamespace(dtype=lambda text: real({"<f8": "<f8"}[text])))
    with pytest.raises(AnswerError):
        answers.decode(content)


@pytest.mark.parametrize("kind", sorted(answers.DTYPES))
def test_does_every_kind_of_number_cross(kind):
    values = np.arange(6).reshape(2, 3).astype(kind)
    found = crossed(values)
    assert found.dtype == values.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, values)
    assert crossed(values.astype(values.dtype.newbyteorder(">"))).tolist() == values.tolist()


@pytest.mark.parametrize("word", ["function", "variable", ["answer"], 7])
def test_is_a_reply_to_another_request_no_answer(word):
    """A value that is said to lack a function, and a call that is said to lack a variable."""
    asked = answers.call_request("f", []) if word == "variable" else answers.value_request("x")
    with pytest.raises(Failed, match="gave no readable answer"):
        answers.value_of(asked, {"missing": word})


def test_is_no_word_of_a_student_repeated_at_length():
    for value in ({"kind": "object", "class": "<b>x\x1b" * 100_000}, {"k" * 10**6: 1, "m": 2}):
        said = kind_of(value)
        assert len(said) < 200
        assert "<" not in said
        assert "\x1b" not in said
    assert kind_of({"kind": "object", "class": "torch.Tensor"}) == "a torch.Tensor"
    assert kind_of({"kind": "object", "class": "\x00"}) == "a thing of another kind"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (..., "x is still the three dots (...), expected is a dictionary with the keys 'a' and 'b'"),
        ({"a": ..., "b": 1}, "x['a'] holds no numbers: it is still the three dots (...)"),
        (8, "x is a number, expected is a dictionary"),
        ({"a": np.ones(1), "b": 1}, "x['a'] has the shape (1,), expected is one number"),
    ],
)
def test_is_what_stands_in_the_place_of_an_answer_named_in_a_students_words(value, words):
    crossing = answers.decode(answers.encode(answering.plain(value)))
    with pytest.raises(Failed) as said:
        near(keyed(crossing, "x", ("a", "b"))["a"], 1.0, "x['a']")
    assert words in said.value.found


def test_is_nothing_no_number():
    with pytest.raises(Failed) as said:
        near(None, 1.0, "x")
    assert (said.value.found, "return" in said.value.help) == ("x is nothing (None)", True)
    with pytest.raises(Failed, match="x is 2, which is not what theory gives"):
        near(2.0, 1.0, "x", source="theory")
    for text in ("1,5", "1.5", ["1.5"], [1.5, "1.5"], [1.5j]):
        with pytest.raises(Failed, match=r"x holds no numbers: it is a (text|list)"):
            near(text, 1.5, "x")


def test_is_a_hostile_object_only_named():
    assert answering.plain([Hostile()]) == [{"kind": "object", "class": "Hostile"}]


def test_is_a_number_too_long_to_be_written_only_named():
    assert crossed(answering.plain([10**20_000, 10**2_000])) == [{"kind": "object", "class": "int"}, 10**2_000]


def test_is_a_list_that_holds_itself_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(AnswerError):
        answering.plain(endless)


def test_is_a_network_its_layers_and_parameters():
    network = nn.Sequential(OrderedDict(fc_1=nn.Linear(2, 3), inner=nn.Sequential(nn.ReLU())))
    found = answering.plain(network)
    assert found["layers"] == [["fc_1", "Linear"], ["inner.0", "ReLU"]]
    assert {name: array.shape for name, array in found["parameters"].items()} == {
        "fc_1.weight": (3, 2),
        "fc_1.bias": (3,),
    }


# Questions and answers

NOTEBOOK = """
import numpy as np, sys, torch
from torch import nn
number = 42
def double(x):
    x *= 2
    return x
def build(width):
    return nn.Sequential(nn.Linear(4, width))
def test_is_one_module_in_three_places_told_three_times():
    act = nn.ReLU()
    network = nn.Sequential(OrderedDict(relu_1=act, fc_1=nn.Linear(2, 2), relu_2=act))
    found = answering.plain(network)
    assert [name for name, _ in found["layers"]] == ["relu_1", "fc_1", "relu_2"]


def layers(network):
    return [name for name, _ in network.named_children()]
def leaves():
    sys.exit(0)
def fails(x):
    print("noise", file=sys.stderr)
    raise ValueError("no " + x)
def gives_object():
    return object()
def gives_text():
    return "not a network"
"""


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    namespace = {}
    exec(NOTEBOOK, namespace)
    return live_evidence(namespace, tmp_path_factory.mktemp("work"))


def test_do_functions_receive_arrays_tensors_and_networks(evidence):
    x = np.arange(3.0)
    np.testing.assert_array_equal(evidence.call("double", x), 2 * x)
    np.testing.assert_array_equal(evidence.call("double", Tensor(x)), 2 * x)
    # the function doubled what it was given in place: that was its own copy
    np.testing.assert_array_equal(x, np.arange(3.0))
    assert evidence.call("layers", Network((4, 3, 2), "tanh")) == ["flatten", "fc_1", "tanh_1", "fc_2"]
    assert evidence.value("number") == 42


def test_is_a_network_asked_for_its_outputs(evidence):
    found = evidence.network("build", 3, inputs=np.ones((5, 4)))
    weight, bias = found["parameters"]["0.weight"], found["parameters"]["0.bias"]
    np.testing.assert_allclose(found["outputs"], np.ones((5, 4)) @ weight.T + bias, rtol=1e-6)


@pytest.mark.parametrize(("ask", "kind", "words"), [
    (lambda e: e.call("bild", 3), Missing, "there is no function bild"),
    (lambda e: e.value("nummer"), Missing, "variable nummer: not answered yet, or"),
    (lambda e: e.call("number"), Failed, "number is a int, not a function"),
    (lambda e: e.call("fails", "luck"), Failed, "fails('luck') raised ValueError: no luck"),
    (lambda e: e.call("leaves"), Failed, "leaves() raised SystemExit"),
    (lambda e: e.call("double"), Failed, "double() raised TypeError"),
    (lambda e: e.call("double", np.ones((2, 3)), Tensor(np.ones(4))), Failed, "<2x3 array of float64>, <4 tensor"),
    (lambda e: e.call("fails", [Tensor(np.ones(4)), Tensor(np.ones(2))]), Failed, "fails(<list of 2 tensors>)"),
    (lambda e: e.network("gives_text", inputs=np.ones(1)), Failed, "gives a str, not a network"),
    (lambda e: e.recording("relu"), Missing, "there is no recording relu.safetensors"),
    (lambda e: e.timelines(), Missing, "workspace.json"),
])  # fmt: skip
def test_does_each_failure_have_its_sentence(evidence, capsys, ask, kind, words):
    with pytest.raises(kind) as raised:
        ask(evidence)
    assert words in raised.value.found
    assert str(evidence.folders[0]) not in raised.value.found
    # anything on stderr makes nbgrader give 0 points
    assert capsys.readouterr() == ("", "")


BLANKS = """
def blank(x):
    # YOUR CODE HERE
    raise NotImplementedError()
def calls_it(x):
    return blank(x) + 1
def other(x):
    raise NotImplementedError("no such layer")
"""


def test_is_an_untouched_answer_called_not_answered(ipython, tmp_path):
    shell = ipython()
    shell.run_cell(BLANKS)
    evidence = live_evidence(shell.user_ns, tmp_path)
    with pytest.raises(Missing) as raised:
        evidence.call("blank", 1)
    assert (raised.value.found, raised.value.help) == ("blank is not answered yet", "")
    raising = CODE_STUB.split()[-1].removesuffix("()")  # what stands in a blank raises it
    for name, words in (("calls_it", f"raise {raising}()"), ("other", f'{raising}("no such')):
        with pytest.raises(Failed, match=f"raised {raising}") as raised:
            evidence.call(name, 1)
        assert words in raised.value.help


def test_is_an_object_only_named(evidence):
    assert evidence.call("gives_object") == {"kind": "object", "class": "object"}


@pytest.mark.parametrize("reply", [
    None, 3, [], {}, "value", {"value": {"pickle": "x"}}, {"value": [[[]] * 3, {"array": 1}]}, {"error": None},
    {"error": {"a": 1}, "line": 5}, {"stopped": "<b>"}, {"missing": "everything"}, {"unfit": ["x"] * 1000},
    {"missing": "answer"},
])  # fmt: skip
def test_does_a_forged_reply_fail_the_check_and_never_break_it(tmp_path, reply):
    evidence = AnsweredEvidence([tmp_path], "ada", 0, lambda request: reply)
    with pytest.raises(Failed):
        evidence.call("double", 1)
    with pytest.raises(Failed):
        evidence.network("double", 1, inputs=np.ones(1))


@pytest.mark.parametrize("parts", [
    {"layers": 3}, {"layers": [["a"]]}, {"layers": [[1, 2]]}, {"parameters": [1]}, {"parameters": {"w": [1]}},
    {"outputs": [1.0]},
])  # fmt: skip
def test_is_a_forged_network_refused(tmp_path, parts):
    whole = {"layers": [["fc_1", "Linear"]], "parameters": {"w": np.ones(2)}, "outputs": np.ones(2)}
    forged = encode({**whole, **parts})
    evidence = AnsweredEvidence([tmp_path], "ada", 0, lambda request: {"value": forged})
    with pytest.raises(Failed, match="gives no network"):
        evidence.network("build", inputs=np.ones(1))


# The pipe


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours), theirs


@pytest.mark.parametrize(("sent", "words"), [
    (b"\xff\xff\xff\xff", "announced"),
    (struct.pack("<I", 5) + b"\x80\x04\x95ab", "not JSON"),
    (struct.pack("<I", 200_000) + b"[" * 200_000, "not JSON"),
])  # fmt: skip
def test_is_garbage_on_the_pipe_refused(ends, sent, words):
    ours, theirs = ends
    threading.Thread(target=theirs.sendall, args=[sent], daemon=True).start()
    with pytest.raises(ChannelError, match=words):
        ours.receive(deadline=channel.time.monotonic() + 10)


def test_is_an_end_in_mid_message_an_end(ends):
    ours, theirs = ends
    theirs.sendall(struct.pack("<I", 100) + b"half")
    theirs.close()
    with pytest.raises(Gone):
        ours.receive()


def test_is_silence_too_late(ends):
    with pytest.raises(TooLate):
        ends[0].receive(deadline=channel.time.monotonic() + 0.05)


def test_is_an_end_noticed_where_a_child_keeps_the_socket(ends):
    ours, _ = ends
    child = os.fork()
    if child == 0:
        os._exit(0)
    ours.watch(os.pidfd_open(child))
    with pytest.raises(Gone):
        ours.receive(deadline=channel.time.monotonic() + 10)
    os.waitpid(child, 0)


# The self-check


def test_does_the_self_check_show_verdicts_and_give_partial_credit(monkeypatch, tmp_path, capsys):
    from autograder import questionnaire
    from autograder.checks import Question, check

    @check(points=1)
    def right(evidence):
        """number is a number."""
        evidence.value("number")

    @check(points=2)
    def wrong(evidence):
        """number is 43."""
        if evidence.value("number") != 43:
            raise Failed("number is 42")

    monkeypatch.setattr(questionnaire, "_REGISTERED", {"t": {"half": Question("half", "Half", (right, wrong))}})
    monkeypatch.chdir(tmp_path)
    namespace = {"autograder": autograder, "number": 42}
    exec('earned = autograder.check("half")', namespace)
    said = capsys.readouterr()
    assert namespace["earned"] == 1.0
    assert "Half: 1 of 3 points" in said.out
    assert "number is 42" in said.out
    assert said.err == ""


def test_does_the_self_check_know_whose_notebook_it_is(tmp_path):
    assert live_evidence({"student": "ada"}, tmp_path).student == "ada"
    assert live_evidence({"student": object()}, tmp_path).student == ""


def test_is_every_message_json():
    request = answers.call_request("f", [Tensor(np.ones(2)), Network((2, 2))], np.ones(1))
    assert json.loads(answers.to_bytes(request)) == request


@pytest.mark.parametrize("keys", [
    [k * (2**61 - 1) for k in range(1, 30_000)],
    [{"tuple": [k * (2**61 - 1)]} for k in range(1, 30_000)],
], ids=["numbers", "tuples"])  # fmt: skip
def test_are_keys_that_collide_refused_at_once(keys):
    """A dictionary of keys with one hash takes hours to build."""
    with pytest.raises(AnswerError, match="keys that are not plain"):
        decode({"dict": [[key, 0] for key in keys]})


def test_is_a_message_of_too_many_parts_refused():
    ours, theirs = socket.socketpair()
    content = b"[" + b"[]," * 9_000_000 + b"0]"
    sender = threading.Thread(target=theirs.sendall, args=(struct.pack("<I", len(content)) + content,))
    sender.start()
    with pytest.raises(ChannelError, match="too many parts"):
        Channel(ours).receive()
    sender.join()


def test_is_a_recording_read_again_only_when_its_file_changed(tmp_path, runs):
    def seen():
        return live_evidence({"student": "ada"}, tmp_path)

    with pytest.raises(Missing, match=r"run\.safetensors"):
        seen().recording("run")
    runs["relu"].save(tmp_path / "run.safetensors")
    first = seen()
    assert seen().recording("run") is first.recording("run")
    assert seen().salt == first.salt
    runs["sigmoid"].save(tmp_path / "run.safetensors")
    assert seen().recording("run").digest == runs["sigmoid"].digest != first.recording("run").digest
    (tmp_path / "run.safetensors").write_bytes(b"cut off")
    with pytest.raises(Missing):
        seen().recording("run")
