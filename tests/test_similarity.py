"""Is what was copied found under its disguises, and is honest work left alone?"""

import ast
import csv
import io
import itertools
import json
import keyword
import os
import re
import struct
import tokenize
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from honest_answers import ANSWERS
from hypothesis import given
from hypothesis import strategies as st

from autograder import course as courses
from autograder import fingerprints, similarity
from autograder.cells import without_solutions
from autograder.cli import main
from autograder.fingerprints import CODE, WINDOW, code_tokens, hashes, passages, shared, winnowed, word_tokens
from autograder.grading import GradingError
from autograder.similarity import THRESHOLD, Pair, Similarities, export_csv, export_html
from labkit.experiments import experiment
from labkit.maps import Map

LAB = "vanishing_gradients"
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)> \x1b[31m \u202e'


def words(text, tokens=code_tokens):
    return [token.word for token in tokens(text)]


def notebook(code, essays=()):
    cells = [{"cell_type": "code", "source": text, "metadata": {}, "outputs": []} for text in code]
    cells += [{"cell_type": "markdown", "source": text, "metadata": {}} for text in essays]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def course(tmp_path):
    """A course whose lab was released: its source without the solutions."""
    source = json.loads((courses.assignments_home() / "source" / LAB / f"{LAB}.ipynb").read_bytes())
    for cell in source["cells"]:
        cell["source"] = without_solutions("".join(cell["source"]))
    (tmp_path / "release" / LAB).mkdir(parents=True)
    (tmp_path / "release" / LAB / f"{LAB}.ipynb").write_text(json.dumps(source))
    (tmp_path / "nbgrader_config.py").write_text("c = get_config()\n")
    return tmp_path


def hand_in(course, student, code=(), essays=(), **recordings):
    folder = course / "submitted" / student / LAB
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{LAB}.ipynb").write_text(json.dumps(notebook(code, essays)))
    for name, recording in recordings.items():
        recording.save(folder / f"{name}.safetensors")
    return folder


def found_in(course, threshold=THRESHOLD):
    return similarity.similarity(course, LAB, threshold, progress=False)


def listed(course, threshold=THRESHOLD):
    return {(pair.first, pair.second): pair for pair in found_in(course, threshold).pairs}


# Tokens


@pytest.mark.parametrize(("one", "other"), [
    ("total = count + 1", "summe = n + 1"),
    ("x = 1000", "x = 1_000"),
    ("x = 1000", "x = 1e3"),
    ("x = 1000", "x=0x3E8"),
    ("x = .5", "x = 0.50"),
    ("def f(x):\n    return x", "def f(x):\n    # why\n    '''Doc.\n    string'''\n    return x  # what"),
    ("f(a, b)", "f(\n    a,  # one\n    b\n)"),
    ("x = 'a' + b", 'y = "other" + z'),
    ("a + \\\n  b", "a + b"),
    ("x = r'\\d'", "x = '''d'''"),
])  # fmt: skip
def test_does_what_a_copier_changes_not_count(one, other):
    assert words(one) == words(other)


@pytest.mark.parametrize(("one", "other"), [
    ("x = a + b", "x = a - b"), ("x = 2", "x = 3"), ("x = 2", "x = '2'"), ("f(a, b)", "f(a)"),
    ("if a: b", "while a: b"), ("x = 'kept'", "x = "), ("f('kept')", "f()"), ("x == 1", "x = 1"), ("a ** b", "a * b"),
    ("('a\\n'\n)", "()"),
])  # fmt: skip
def test_does_what_changes_the_work_count(one, other):
    assert words(one) != words(other)


@pytest.mark.parametrize("path", sorted(Path(fingerprints.__file__).parent.glob("*.py")), ids=lambda path: path.name)
def test_does_pythons_own_tokenizer_see_the_same(path):
    text = path.read_text("utf-8")
    expected, inside = [], 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        # from Python 3.12 on an f-string comes in pieces
        kind = tokenize.tok_name[token.type]
        inside += (kind == "FSTRING_START") - (kind == "FSTRING_END")
        if inside:
            continue
        if kind == "NAME":
            expected.append(token.string if keyword.iskeyword(token.string) else "name")
        elif kind == "NUMBER":
            expected.append(repr(float(ast.literal_eval(token.string))))
        elif kind == "OP":
            expected.append(token.string)
    assert [word for word in words(text) if word != "text"] == expected


@given(st.text(alphabet=st.sampled_from(list("ab1_.'\"\\#\n (){}[]:=+é∂\x00\ud800")), max_size=200))
def test_is_no_text_too_broken(text):
    tokens = code_tokens(text)
    assert all(0 <= token.start < token.stop <= len(text) for token in tokens)
    assert all(one.stop <= other.start for one, other in itertools.pairwise(tokens))


def test_are_words_words():
    assert words("The loss (of FC_4) fell, to 2.31!", word_tokens) == [
        "the",
        "loss",
        "of",
        "fc_4",
        "fell",
        "to",
        "number",
    ]


# Fingerprints


@given(st.data())
def test_does_winnowing_find_every_long_enough_run(data):
    """The guarantee of Schleimer, Wilkerson and Aiken (2003): any k + w - 1 equal tokens share a fingerprint."""
    letters = st.lists(st.sampled_from("abcdefgh"), max_size=30)
    run = data.draw(st.lists(st.sampled_from("abcdefgh"), min_size=CODE + WINDOW - 1, max_size=30))
    sides = [data.draw(letters) + run + data.draw(letters) for _ in range(2)]
    one, other = (winnowed(hashes([fingerprints.Token(c, 0, 1) for c in side], CODE)) for side in sides)
    assert np.intersect1d(one, other).size


def test_is_a_fingerprint_that_of_its_tokens_and_the_same_everywhere():
    tokens = code_tokens("a = b + c\n" * 10)
    every = hashes(tokens, 5)
    by_words = {}
    for k, value in enumerate(every.tolist()):
        by_words.setdefault(tuple(token.word for token in tokens[k : k + 5]), set()).add(value)
    assert len(by_words) == 5
    assert all(len(values) == 1 for values in by_words.values())
    assert len(set.union(*by_words.values())) == 5
    assert hashes(tokens[:5], 5).tolist() == [int(every[0])]
    assert hashes(tokens[:4], 5).size == 0
    assert hex(fingerprints._hash("name")) == "0x57c093842a936eda"


@given(st.lists(st.sets(st.integers(0, 60), max_size=40), min_size=2, max_size=8), st.integers(1, 8))
def test_are_shared_fingerprints_those_of_both_sets(sets, most):
    counts, common = shared([np.array(sorted(one), np.uint64) for one in sets], most)
    popular = {value for value in set().union(*sets) if sum(value in one for one in sets) > most}
    own = [one - popular for one in sets]
    assert counts.tolist() == [[len(a & b) for b in own] for a in own]
    assert common.tolist() == [len(one & popular) for one in sets]


def test_are_passages_whole_lines_longest_first_and_without_what_is_left_out():
    shared_lines = "    total = sum(weight * value for weight, value in pairs)\n    return total / len(pairs) ** 0.5"
    first = f"def f(pairs):\n{shared_lines}\nprint(1)"
    second = f"x = 3\ndef g(ps):\n    y = 7\n{shared_lines.replace('total', 't')}"
    sides = [[(text, code_tokens(text))] for text in (first, second)]
    [found] = passages(*sides, CODE, np.zeros(0, np.uint64))
    assert found.first == shared_lines
    assert found.second == shared_lines.replace("total", "t")
    assert found.tokens == len(code_tokens(shared_lines))
    assert passages(*sides, CODE, hashes(sides[0][0][1], CODE)) == []


# Code


def answers(who):
    return list(ANSWERS[who].values())


def disguised(code):
    """Other names, other comments, other texts, another order of cells, more space."""
    names = dict.fromkeys(re.findall(r"\b[a-z_]\w*\b", "\n".join(code)))
    new = {name: f"mine_{k}" for k, name in enumerate(names) if not keyword.iskeyword(name)}
    made = []
    for cell in reversed(code):
        cell = re.sub(r'"""(?s:.)*?"""', '"""I wrote this."""', cell)
        cell = re.sub(r"\b[a-z_]\w*\b", lambda match: new.get(match[0], match[0]), cell)
        made.append("# my own\n" + cell.replace("\n", "  # really\n").replace(" = ", "  =  "))
    return made


def test_is_honest_work_far_below_the_threshold(course, monkeypatch):
    """Six people who solved the exercises alone share up to 0.08 of the smaller one's code, half of them up to 0.03."""
    for who in ANSWERS:
        hand_in(course, who, answers(who))
    assert listed(course) == {}
    monkeypatch.setitem(similarity.LEAST, "code", 1)
    shares = sorted(pair.code for pair in listed(course, 0.001).values())
    assert len(shares) >= 12
    assert max(shares) < THRESHOLD / 2.5
    assert shares[len(shares) // 2] < THRESHOLD / 5


@pytest.mark.parametrize("who", ANSWERS)
def test_is_a_copy_found_under_its_disguise(course, who):
    for other in ANSWERS:
        hand_in(course, other, answers(other))
    hand_in(course, "copier", disguised(answers(who)))
    assert set(listed(course)) == {tuple(sorted(("copier", who)))}
    [pair] = listed(course).values()
    assert pair.code > 0.9
    assert max(passage.tokens for passage in pair.code_passages) > 50


def test_is_a_copy_found_whose_code_is_broken(course):
    hand_in(course, "ada", answers("careful"))
    hand_in(course, "bela", [f"def (\n{cell}\n'''never closed" for cell in answers("careful")])
    assert listed(course)["ada", "bela"].code > 0.9


def test_is_a_copy_of_two_exercises_found(course):
    for who in ANSWERS:
        hand_in(course, who, answers(who))
    mixed = {**ANSWERS["terse"], **{name: ANSWERS["careful"][name] for name in ("build_network", "train_loop")}}
    hand_in(course, "copier", disguised(list(mixed.values())))
    assert listed(course)["careful", "copier"].code > THRESHOLD


def test_do_untouched_notebooks_and_what_the_template_says_share_nothing(course):
    released = json.loads((course / "release" / LAB / f"{LAB}.ipynb").read_bytes())
    texts = {kind: [cell["source"] for cell in released["cells"] if cell["cell_type"] == kind]
             for kind in ("code", "markdown")}  # fmt: skip
    for who in ("ada", "bela"):
        hand_in(course, who, [*texts["code"], *answers("careful" if who == "ada" else "terse")], texts["markdown"])
    hand_in(course, "carmen", texts["code"], texts["markdown"])
    hand_in(course, "dmitri", texts["code"], texts["markdown"])
    assert listed(course) == {}


def test_is_what_many_have_counted_for_nobody_and_said(course):
    for k in range(15):
        hand_in(course, f"s{k:02}", [*answers("careful"), *(answers("terse") if k in (3, 7) else ())])
    found = found_in(course)
    assert [(pair.first, pair.second) for pair in found.pairs] == [("s03", "s07")]
    assert found.pairs[0].code == 1.0
    assert found.common == 15


# Essays


SENTENCE = "Each layer multiplies the gradient by the slope of its activation, so in my network it is 17 times smaller."


def test_are_shared_words_found_whatever_numbers_stand_in_them(course):
    hand_in(course, "ada", essays=[f"I think this. {SENTENCE} That is all."])
    hand_in(course, "bela", essays=["Well: " + SENTENCE.replace("17", "23.5").upper()])
    hand_in(
        course, "carmen", essays=["A slope below one makes the product of many slopes vanish; mine fell to 0.02 of it."]
    )
    [(who, pair)] = listed(course).items()
    assert who == ("ada", "bela")
    assert pair.essay_passages[0].tokens == len(word_tokens(SENTENCE))


def test_is_a_quoted_question_no_shared_work(course):
    question = (
        "Describe in a few sentences: how the distributions of the two networks differ and how they change from the"
    )
    hand_in(course, "ada", essays=[question + " Mine are narrow."])
    hand_in(course, "bela", essays=[question + " They were wide for me."])
    assert listed(course) == {}


# Recordings


@pytest.fixture(scope="module")
def trained():
    """Five epochs of the lab's networks, of four students."""
    from labkit.training import train_many

    runs = {}
    for who in ("ada", "bela", "carmen", "dmitri"):
        asked = [experiment(f"vanishing/{name}", who).replace(epochs=5) for name in ("relu", "sigmoid", "exploding")]
        asked[2] = asked[2].replace(gain=3.0)
        runs[who] = dict(zip(("relu", "sigmoid", "exploding"), [train_many([one], progress=False)[0] for one in asked],
                             strict=True))  # fmt: skip
    return runs


def rewritten(run, **changes):
    """Saved again under another student's name: every digest is another."""
    return replace(run, origin=replace(run.origin, student="copier", seed=7), **changes)


def significant(values, digits):
    with np.errstate(divide="ignore"):
        power = 10.0 ** (np.floor(np.log10(np.abs(values), where=values != 0, out=np.zeros(values.shape))) - digits + 1)
    return (np.rint(values / power) * power).astype(np.float32)


FORGED = {
    "another header": (lambda run: rewritten(run), 1.0),
    "rounded": (lambda run: rewritten(run, loss=significant(run.loss, 6), gradient=significant(run.gradient, 6)), 0.9),
    "noise in the last digits": (lambda run: rewritten(
        run, loss=run.loss * np.float32(1 + 3e-7), gradient=run.gradient * np.float32(1 + 3e-7)), 0.9),
    "another gradient": (lambda run: rewritten(run, gradient=run.gradient * np.float32(3)), 0.95),
    "another loss": (lambda run: rewritten(run, loss=run.loss + np.float32(0.1)), 1.0),
    "shuffled": (lambda run: rewritten(run, loss=run.loss[::-1].copy(), gradient=run.gradient[::-1].copy()), 1.0),
}  # fmt: skip


def test_have_honest_recordings_nothing_in_common(course, trained):
    for who, runs in trained.items():
        hand_in(course, who, **runs)
    assert listed(course) == {}
    works = [similarity._read(course, LAB, who, similarity.grading.bar_over(1, False)) for who in trained]
    alike = [similarity._alike(a, b) for one, other in itertools.combinations(works, 2)
             for a in one.runs for b in other.runs]  # fmt: skip
    assert len(alike) == 6 * 9
    assert max(alike) == 0


@pytest.mark.parametrize("name", ["relu", "sigmoid"])
@pytest.mark.parametrize("forged", FORGED)
def test_is_a_forged_copy_recognised(course, trained, name, forged):
    forge, share = FORGED[forged]
    for who in ("ada", "bela", "carmen"):
        hand_in(course, who, **trained[who])
    hand_in(course, "dmitri", renamed=forge(trained["ada"][name]))
    [(who, pair)] = listed(course).items()
    assert who == ("ada", "dmitri")
    assert pair.recordings >= share
    assert f"{name}.safetensors and renamed.safetensors" in pair.said[0]


def test_is_a_run_found_that_exploded_at_once(course, trained):
    hand_in(course, "ada", exploding=trained["ada"]["exploding"])
    hand_in(course, "bela", exploding=rewritten(trained["ada"]["exploding"]))
    assert set(listed(course)) == {("ada", "bela")}


def test_are_equal_files_named_as_such(course, trained):
    for who in ("ada", "bela"):
        hand_in(course, who, relu=trained["ada"]["relu"])
    [pair] = listed(course).values()
    assert pair.said == ("the same file, byte for byte: relu.safetensors",
                         f"recordings of both have the same seed: {trained['ada']['relu'].origin.seed}")  # fmt: skip


def test_is_an_equal_seed_named_where_nothing_else_is_equal(course, trained):
    other = trained["bela"]["relu"]
    hand_in(course, "ada", relu=trained["ada"]["relu"])
    hand_in(course, "bela", relu=replace(other, origin=replace(other.origin, seed=trained["ada"]["relu"].origin.seed)))
    [pair] = listed(course).values()
    assert (pair.recordings, len(pair.said)) == (0.0, 1)
    assert pair.said[0].startswith("recordings of both have the same seed: ")


@pytest.mark.parametrize("share", [0.15, 0.5])
def test_is_a_file_recognised_that_was_cut_off(course, trained, share):
    hand_in(course, "ada", relu=trained["ada"]["relu"])
    folder = hand_in(course, "bela", relu=trained["ada"]["relu"])
    path = folder / "relu.safetensors"
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    start = 8 + struct.unpack("<Q", content[:8])[0] + header["gradient"]["data_offsets"][0]
    size = header["gradient"]["data_offsets"][1] - header["gradient"]["data_offsets"][0]
    path.write_bytes(content[: start + int(share * size)])
    # the losses stand behind the gradients in the file and are gone
    assert listed(course)["ada", "bela"].recordings == 1.0


def test_is_a_run_recognised_that_was_cut_short(course, trained):
    run = trained["ada"]["relu"]
    hand_in(course, "ada", relu=run)
    folder = hand_in(course, "bela")
    short = {"loss": run.loss[:90].copy(), "gradient": run.gradient[:90].copy()}
    from safetensors.numpy import save

    (folder / "figures.bin").write_bytes(save(short))
    [pair] = listed(course).values()
    assert pair.recordings == 1.0
    assert pair.said[0].endswith("relu.safetensors and figures.bin")


def test_is_what_the_graders_run_made_compared_too(course, trained):
    hand_in(course, "ada", relu=trained["ada"]["relu"])
    hand_in(course, "bela")
    made = course / "results" / LAB / "made" / "bela"
    made.mkdir(parents=True)
    trained["ada"]["relu"].save(made / "relu.safetensors")
    assert listed(course)["ada", "bela"].recordings == 1.0


def tensors(**about):
    header = json.dumps(about).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4000)


GOOD = {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}
CUBE = {"dtype": "F32", "shape": [9, 2, 7], "data_offsets": [36, 540]}


@pytest.mark.parametrize("content", [
    b"", b"short", struct.pack("<Q", 2**60), struct.pack("<Q", 5) + b"nojs!", tensors(), tensors(loss=GOOD),
    tensors(loss=3, gradient=None), tensors(loss=GOOD, gradient=GOOD), tensors(loss=CUBE, gradient=CUBE),
    tensors(loss={**GOOD, "dtype": "BOOL"}, gradient=CUBE), tensors(loss={**GOOD, "shape": [-9]}, gradient=CUBE),
    tensors(loss={**GOOD, "shape": [2**62]}, gradient=CUBE), tensors(loss={**GOOD, "shape": "x"}, gradient=CUBE),
    tensors(loss=GOOD, gradient={**CUBE, "shape": [9, 10**9, 7]}),
    tensors(loss=GOOD, gradient={**CUBE, "shape": [9, 2, 0]}), tensors(loss={**GOOD, "shape": [9, 0]}, gradient=CUBE),
    tensors(loss={**GOOD, "data_offsets": []}, gradient=CUBE),
    tensors(loss={**GOOD, "data_offsets": [-40, 0]}, gradient=CUBE),
    struct.pack("<Q", 60_000) + b"[" * 60_000,
])  # fmt: skip
def test_is_what_is_no_recording_passed_over(course, content):
    folder = hand_in(course, "ada")
    (folder / "run.safetensors").write_bytes(content)
    assert similarity._run(folder / "run.safetensors", "run") is None
    assert found_in(course).troubles == ()


def test_does_the_reader_read_what_is_well_formed(tmp_path):
    (tmp_path / "run").write_bytes(tensors(loss=GOOD, gradient=CUBE))
    assert similarity._run(tmp_path / "run", "run").keys.tolist() == [[0, 0]] * 9


def test_is_a_file_that_announces_terabytes_read_as_far_as_it_goes(tmp_path):
    loss, gradient = {**GOOD, "shape": [10**6]}, {**CUBE, "shape": [10**6, 14_000, 7]}
    (tmp_path / "run").write_bytes(tensors(loss=loss, gradient=gradient))
    run = similarity._run(tmp_path / "run", "run")
    assert run is None or len(run.keys) < 2000


# a map of 3 depths by 2 variances


def a_map(seed, base=7):
    draw = np.random.default_rng(seed)
    start = np.where(np.arange(6) <= np.array([1, 3, 5])[:, None, None], draw.uniform(1e-4, 1, (3, 2, 6)), np.nan)
    e = experiment("trainability/tanh", "ada").replace(seed=base + seed, epochs=1, batches=9)
    return Map(e, (1, 3, 5), (1.0, 2.0), draw.uniform(0.1, 1, (3, 2)), draw.uniform(1, 3, (3, 2, 9)), start)


def hand_in_map(course, student, found):
    found.save(hand_in(course, student) / "map_tanh.safetensors")


def test_are_maps_compared_by_their_networks(course):
    mine, other = a_map(1), a_map(2)
    half = replace(mine, base=other.base, loss=np.concatenate([mine.loss[:1], other.loss[1:]]),
                   start=np.concatenate([mine.start[:1], other.start[1:]]))  # fmt: skip
    # the same fields in a file that says it is somebody else's: byte for byte it would be one file
    hers = replace(mine, base=mine.base.replace(student="bela", seed=mine.base.seed))
    for who, found in {"ada": mine, "bela": hers, "chidi": other, "dana": half, "emre": a_map(3)}.items():
        hand_in_map(course, who, found)
    found = listed(course)
    assert set(found) == {("ada", "bela"), ("ada", "dana"), ("bela", "dana"), ("chidi", "dana")}
    assert found["ada", "bela"].said[0] == "100% of the networks are the same: map_tanh.safetensors"
    assert "recordings of both have the same seed" in " ".join(found["chidi", "dana"].said)
    assert found["ada", "dana"].said == ("33% of the networks are the same: map_tanh.safetensors",)
    assert found["chidi", "dana"].recordings == pytest.approx(2 / 3)


def test_are_a_maps_figures_known_again_when_they_are_rounded(course):
    hand_in_map(course, "ada", a_map(1))
    hand_in_map(course, "bela", replace(a_map(1), base=a_map(2).base, loss=a_map(1).loss.astype(np.float16)))
    [pair] = listed(course).values()
    assert pair.recordings > 0.9


def test_do_links_lead_to_no_recording(course, trained):
    folder = hand_in(course, "ada", relu=trained["ada"]["relu"])
    (hand_in(course, "bela") / "relu.safetensors").symlink_to(folder / "relu.safetensors")
    assert listed(course) == {}
    made = course / "results" / LAB / "made" / "bela"
    made.mkdir(parents=True)
    (made / "relu.safetensors").symlink_to(folder / "relu.safetensors")
    os.mkfifo(made / "pipe.safetensors")
    assert listed(course) == {}


# What is told


def a_pair(*shares, said=()):
    return Pair("ada", "bela", *shares, said)


@pytest.mark.parametrize(("first", "then"), [
    (a_pair(1.0, 1.0, 0.0), a_pair(1.0, None, None)),  # a whole copy; a few lines of somebody who wrote nothing else
    (a_pair(0.97, 0.96, None), a_pair(1.0, 0.0, 0.0)),
    (a_pair(0.3, None, 1.0), a_pair(0.8, 0.8, 0.0)),
    (a_pair(0.93, 0.0, 0.0), a_pair(0.91, 0.0, 0.0)),
    (a_pair(0.3, 0.0, None), a_pair(None, None, 0.0, said=("recordings of both have the same seed: 7",))),
])  # fmt: skip
def test_is_what_tells_more_ahead(first, then):
    assert first.telling > then.telling


def test_do_whole_copies_come_before_those_that_leave_nothing_to_compare(course):
    """In the order of their names the empty ones were first."""
    whole = answers("careful")
    hand_in(course, "ada", whole[:2])
    for who in ("bela", "carmen"):
        hand_in(course, who, whole, [SENTENCE])
    hand_in(course, "dmitri")
    found = found_in(course)
    assert [(pair.first, pair.second) for pair in found.pairs] == [
        ("bela", "carmen"), ("ada", "bela"), ("ada", "carmen"),
    ]  # fmt: skip
    assert [pair.shares for pair in found.pairs] == [(1.0, 1.0, None), (1.0, None, None), (1.0, None, None)]
    assert found.empty == ("dmitri",)


def test_does_what_lists_nobody_by_itself_count_among_those_who_are_listed(course):
    """A short text is no reason to look at a pair, but with the code it is one to look at it first."""
    for who, code, essays in (("ada", "terse", []), ("bela", "terse", []), ("carmen", "careful", [SENTENCE[:70]]),
                              ("dmitri", "careful", [SENTENCE[:70]])):  # fmt: skip
        hand_in(course, who, answers(code), essays)
    assert list(listed(course)) == [("carmen", "dmitri"), ("ada", "bela")]


def test_are_the_most_telling_kept_where_there_are_too_many(course, monkeypatch):
    whole = answers("careful")
    hand_in(course, "ada", whole[:2])
    for who in ("bela", "carmen"):
        hand_in(course, who, whole, [SENTENCE])
    monkeypatch.setattr(similarity, "MOST_PAIRS", 1)
    assert list(listed(course)) == [("bela", "carmen")]
    assert found_in(course).further == 2


def test_is_it_said_where_there_is_nothing_to_compare(course, tmp_path):
    for who in ("ada", "bela"):
        hand_in(course, who, answers("careful"))
    hand_in(course, "carmen")
    arguments = ["similarity", LAB, "--course", course, "--csv", tmp_path / "a.csv", "--html", tmp_path / "a.html"]
    shown = CliRunner().invoke(main, list(map(str, arguments))).output
    page = " ".join((tmp_path / "a.html").read_text("utf-8").split())
    assert "Nothing of their own to compare: carmen" in shown
    assert "<p>Nothing of their own to compare: carmen.</p>" in page
    assert re.search(r"100%\W+–\W+–", shown)
    assert page.count('<td class="number">–</td>') == 2
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == "ada,bela,1.000,,,"


def test_is_a_pair_without_a_passage_no_empty_section(tmp_path):
    found = Similarities("lab", 2, 0.25, (a_pair(0.2, 0.0, None),), 0, 0, ())
    assert "there is no passage to show" in export_html(found, tmp_path / "x.html").read_text("utf-8")


def test_is_what_cannot_be_read_named_and_stops_nobody(course):
    for who in ("ada", "bela"):
        hand_in(course, who, answers("careful"))
    (hand_in(course, "carmen") / f"{LAB}.ipynb").write_bytes(b"{")
    found = found_in(course)
    assert len(found.pairs) == 1
    [(who, why)] = found.troubles
    assert who == "carmen"
    assert "not a readable notebook" in why


def test_is_what_is_missing_said(course):
    with pytest.raises(GradingError, match="nobody has handed in"):
        found_in(course)
    (course / "release" / LAB / f"{LAB}.ipynb").unlink()
    with pytest.raises(GradingError, match=f"run `autograder release {LAB}` first"):
        found_in(course)


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        assert not any(name.startswith("on") or "://" in (value or "") for name, value in attributes)


def test_is_everything_on_the_page_escaped_and_the_page_no_verdict(course, tmp_path):
    code = [f"{cell}\n# {HOSTILE}\nx = {HOSTILE!r}" for cell in answers("careful")]
    for who in ("a<b>", "=cmd"):
        hand_in(course, who, code, [HOSTILE + SENTENCE])
    (hand_in(course, "<i>") / f"{LAB}.ipynb").write_bytes(b"{")
    page = export_html(found_in(course), tmp_path / "pages" / "similar.html").read_text("utf-8")
    tags = set(Tags(page).tags)
    assert not tags & {"script", "img", "b", "i", "link", "iframe"}
    assert {"pre", "table", "h2"} <= tags
    assert "This is no verdict and no mark." in page
    assert "&lt;script&gt;" in page
    assert not {"\x1b", "\u202e"} & set(page)


def test_is_the_table_safe_for_a_spreadsheet(tmp_path):
    pair = Pair("=cmd|'/c calc'!A1", "bela", 0.5, 0.0, 1.0, ("@sum",))
    found = Similarities("lab", 2, 0.25, (pair,), 0, 0, ())
    rows = list(csv.reader(io.StringIO(export_csv(found, tmp_path / "x.csv").read_text())))
    assert rows == [["first", "second", "code", "essays", "recordings", "what"],
                    ["'=cmd|'/c calc'!A1", "bela", "0.500", "0.000", "1.000", "'@sum"]]  # fmt: skip


def test_does_the_command_show_and_write_what_the_library_finds(course, tmp_path):
    for who in ("ada", "bela[bold]"):
        hand_in(course, who, answers("careful"))
    arguments = ["similarity", LAB, "--course", course, "--csv", tmp_path / "a.csv", "--html", tmp_path / "a.html"]
    shown = CliRunner().invoke(main, list(map(str, arguments)))
    assert shown.exit_code == 0, shown.output
    for said in ("No verdict", "ada, bela[bold]", "100%", "1 pair of 2 submissions", "a.csv", "a.html"):
        assert said in shown.output
    assert (tmp_path / "a.csv").is_file()
    assert (tmp_path / "a.html").is_file()
    none = CliRunner().invoke(main, ["similarity", LAB, "--course", str(course), "--threshold", "0"])
    assert none.exit_code == 2
